/* An expert that cannot be read ends the jobs that need it, and no others: those give the bytes that each gives alone. */
#include "../unit/server_jobs.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define JOBS 4
#define CONTEXT 256

static _Atomic long calls, fail_at; /* fail_at: the read that fails; 0: none */

ssize_t __real_preadv(int fd, const struct iovec *iov, int n, off_t offset);
ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t offset);

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    if (++calls != fail_at)
        return __real_preadv(fd, iov, n, offset);
    errno = EIO;
    return -1;
}

ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int n, off_t offset)
{
    return __wrap_preadv(fd, iov, n, offset);
}

/* A model whose cache is so small that it reads all the time. */
static odmoe_model *open_small(void)
{
    odmoe_options o = demo_options(JOBS, CONTEXT);
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_error err;
    char path[4096];
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    o.io = "buffered"; /* on every file system */
    o.prefetch = "off";
    o.chunk = 16;
    if (odmoe_plan_make(path, &o, &plan, &err))
        fail_msg("%s", err.message);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 8;
    return open_demo(&o);
}

static job *job_of(const odmoe_model *model, int which)
{
    int32_t ids[20];
    for (int i = 0; i < 20; i++)
        ids[i] = 300 + (which * 997 + i * 31) % 3000;
    job_request r = request_of(ids, 20, 30);
    r.cache_prompt = false;
    r.ignore_eos = true;
    return create_job(model, &r);
}

static void a_failed_read_ends_the_jobs_that_need_it_alone(void **state)
{
    static answer alone[JOBS], got[JOBS];
    odmoe_model *model = open_small();
    engine_options o = {.sequences = JOBS, .context = CONTEXT, .queue = JOBS};
    engine *e = open_engine(model, &o);
    for (int i = 0; i < JOBS; i++) {
        job *j = job_of(model, i);
        assert_int_equal(engine_submit(e, j, NULL), ENGINE_TAKEN);
        finish_job(j, &alone[i]);
        job_free(j);
    }
    int failures = 0, survivors = 0;
    for (int round = 0; round < 8; round++) {
        job *jobs[JOBS];
        calls = 0;
        fail_at = 40 + 90 * round;
        for (int i = 0; i < JOBS; i++) {
            jobs[i] = job_of(model, i);
            assert_int_equal(engine_submit(e, jobs[i], NULL), ENGINE_TAKEN);
        }
        for (int i = 0; i < JOBS; i++) {
            finish_job(jobs[i], &got[i]);
            job_free(jobs[i]);
            bool failed = got[i].end.finish == JOB_FAILED;
            failures += failed;
            survivors += !failed;
            if (!failed) {
                assert_same_answer(&got[i], &alone[i]);
                continue;
            }
            assert_int_equal(got[i].end.error.code, ODMOE_ERR_IO);
            assert_non_null(strstr(got[i].end.error.message, "expert")); /* what it gave before is right */
            assert_memory_equal(got[i].content, alone[i].content, got[i].content_length);
        }
    }
    assert_true(failures > 0 && survivors > 0);
    fail_at = 0;
    close_engine(e);
    odmoe_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_read_ends_the_jobs_that_need_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
