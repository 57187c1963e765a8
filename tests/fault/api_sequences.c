/* Eight sequences in one call: an error of one of them (a read that fails, being cancelled) does not affect the others,
 * which give the bytes that each gives alone; and nothing but other calls waits for a call under way. */
#include "format_files.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "gguf/qwen2moe-Q4_K_M.gguf"
#define SEQUENCES 8
#define PROMPT 6

static odmoe_error err;

/* ---- the injected fault ---- */

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

static void fail_read(long at)
{
    calls = 0;
    fail_at = at;
}

/* ---- a model that reads all the time, and eight texts ---- */

static odmoe_model *open_small(void)
{
    odmoe_options o = small_options();
    o.io = "buffered"; /* on every file system */
    o.sessions = SEQUENCES + 2;
    o.context = 32;
    o.prefetch = "off";
    odmoe_plan plan = {.size = sizeof plan};
    assert_int_equal(odmoe_plan_make(test_path(MODEL), &o, &plan, &err), ODMOE_OK);
    o.ram_bytes = plan.floor_bytes + plan.experts_bytes / 8;
    return must_open(test_path(MODEL), &o);
}

/* Text i: its prompt, then one token more. */
static const int32_t *text_of(int i)
{
    return text_tokens(40 * i, PROMPT + 1);
}

static float *alone(odmoe_model *m, int i)
{
    float *logits = malloc((size_t)vocab_of(m) * sizeof *logits);
    odmoe_session *s = must_create(m, 32);
    must_eval(s, text_of(i), PROMPT + 1, logits);
    odmoe_session_free(s);
    return logits;
}

typedef struct eight {
    odmoe_model *model;
    odmoe_session *session[SEQUENCES];
    int32_t next[SEQUENCES];
    float *want[SEQUENCES], *got;
    size_t vocab;
} eight;

static eight start(void)
{
    eight e = {.model = open_small()};
    e.vocab = (size_t)vocab_of(e.model);
    e.got = malloc(SEQUENCES * e.vocab * sizeof *e.got);
    for (int i = 0; i < SEQUENCES; i++) {
        e.want[i] = alone(e.model, i);
        e.session[i] = must_create(e.model, 32);
        must_eval(e.session[i], text_of(i), PROMPT, NULL);
        e.next[i] = text_of(i)[PROMPT];
    }
    return e;
}

static void stop(eight *e)
{
    for (int i = 0; i < SEQUENCES; i++) {
        odmoe_session_free(e->session[i]);
        free(e->want[i]);
    }
    free(e->got);
    odmoe_model_close(e->model);
}

/* One token of each, together; `batch` holds what else the call wants. */
static odmoe_status decode(eight *e, odmoe_batch batch, odmoe_sequence *s)
{
    for (int i = 0; i < SEQUENCES; i++)
        s[i] = (odmoe_sequence){.session = e->session[i],
                                .tokens = &e->next[i],
                                .n = 1,
                                .phase = ODMOE_PHASE_DECODE,
                                .want_logits = ODMOE_LOGITS_LAST};
    batch.sequences = s;
    batch.n = SEQUENCES;
    batch.logits = e->got;
    return odmoe_forward(e->model, &batch, &err);
}

/* Those that got through have the bytes that they give alone, and go back a token; the others are where they were.
 * Returns how many failed. */
static int check(eight *e, const odmoe_sequence *s, odmoe_status expected)
{
    int failed = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        if (s[i].status) {
            assert_int_equal(s[i].status, expected);
            assert_int_equal(odmoe_session_length(e->session[i]), PROMPT);
            failed++;
            continue;
        }
        assert_memory_equal(e->got + (size_t)i * e->vocab, e->want[i], e->vocab * sizeof *e->got);
        assert_int_equal(odmoe_session_length(e->session[i]), PROMPT + 1);
        assert_int_equal(odmoe_session_truncate(e->session[i], PROMPT, NULL, &err), ODMOE_OK);
    }
    return failed;
}

static void all_get_through(eight *e)
{
    odmoe_sequence s[SEQUENCES];
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    if (decode(e, batch, s))
        fail_msg("%s", err.message);
    assert_int_equal(check(e, s, ODMOE_OK), 0);
}

/* ---- tests ---- */

static void a_read_error_fails_the_sequences_that_need_the_expert_alone(void **state)
{
    eight e = start();
    int some = 0;
    for (long k = 1; k <= 40; k++) {
        odmoe_sequence s[SEQUENCES];
        odmoe_batch batch;
        odmoe_batch_init(&batch);
        fail_read(k);
        odmoe_status status = decode(&e, batch, s);
        fail_read(0);
        int failed = check(&e, s, ODMOE_ERR_IO);
        some += failed > 0 && failed < SEQUENCES;
        assert_int_equal(status, failed ? ODMOE_ERR_IO : ODMOE_OK);
        for (int i = 0; i < SEQUENCES; i++)
            if (s[i].status)
                assert_error(&s[i].error, s[i].status, ODMOE_ERR_IO, "layer", "expert");
    }
    assert_true(some > 0);
    all_get_through(&e);
    stop(&e);
}

typedef struct cancels {
    int sequence, left; /* it is cancelled when it has been asked for so often */
} cancels;

static int cancel_one(void *user, int32_t sequence)
{
    cancels *c = user;
    return sequence == c->sequence && c->left-- == 0;
}

static void a_cancelled_sequence_leaves_the_other_seven_alone(void **state)
{
    eight e = start();
    odmoe_info info = {.size = sizeof info};
    odmoe_model_info(e.model, &info);
    for (int sequence = 0; sequence < SEQUENCES; sequence += 3)
        for (int layer = 0; layer < info.layers; layer++) {
            cancels c = {sequence, layer};
            odmoe_sequence s[SEQUENCES];
            odmoe_batch batch;
            odmoe_batch_init(&batch);
            batch.cancelled = cancel_one;
            batch.user = &c;
            assert_int_equal(decode(&e, batch, s), ODMOE_ERR_CANCELLED);
            assert_int_equal(s[sequence].status, ODMOE_ERR_CANCELLED);
            assert_int_equal(check(&e, s, ODMOE_ERR_CANCELLED), 1);
        }
    all_get_through(&e);
    stop(&e);
}

/* ---- who waits for a call ---- */

typedef struct middle {
    odmoe_model *model;
    odmoe_session *session;
    sem_t in_the_middle, done;
    bool first;
} middle;

/* In the middle of the call: it goes on when the other thread is through. Were that one to wait for the call, the test would
 * not end. */
static void hold_the_call(void *user, const odmoe_tap *tap)
{
    middle *m = user;
    if (!m->first)
        return;
    m->first = false;
    sem_post(&m->in_the_middle);
    sem_wait(&m->done);
}

static void *look_and_create(void *ctx)
{
    middle *m = ctx;
    odmoe_error e;
    odmoe_session *session, *fork;
    odmoe_stats stats = {.size = sizeof stats};
    odmoe_expert_stats expert = {.size = sizeof expert};
    odmoe_info info = {.size = sizeof info};
    sem_wait(&m->in_the_middle);
    odmoe_stats_get(m->model, &stats);
    odmoe_expert_stats_get(m->model, 0, 0, &expert, &e);
    odmoe_model_info(m->model, &info);
    bool ok = !odmoe_session_create(m->model, 32, &session, &e) && !odmoe_session_fork(m->session, 32, &fork, &e);
    if (ok) {
        odmoe_session_truncate(fork, 2, NULL, &e);
        odmoe_session_free(fork);
        odmoe_session_free(session);
    }
    sem_post(&m->done);
    return ok ? ctx : NULL;
}

static void statistics_and_sessions_do_not_wait_for_a_call(void **state)
{
    middle m = {.model = open_small(), .first = true};
    pthread_t thread;
    void *ok;
    assert_int_equal(sem_init(&m.in_the_middle, 0, 0), 0);
    assert_int_equal(sem_init(&m.done, 0, 0), 0);
    odmoe_session *busy = must_create(m.model, 32);
    m.session = must_create(m.model, 32);
    must_eval(m.session, text_tokens(0, 5), 5, NULL);
    assert_int_equal(pthread_create(&thread, NULL, look_and_create, &m), 0);
    must_forward(m.model, busy, text_tokens(0, 7), 7, &(forward_options){.on_tap = hold_the_call, .user = &m});
    pthread_join(thread, &ok);
    assert_non_null(ok);
    assert_goes_on(m.model, m.session, 5);
    odmoe_session_free(m.session);
    odmoe_session_free(busy);
    odmoe_model_close(m.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_error_fails_the_sequences_that_need_the_expert_alone),
        cmocka_unit_test(a_cancelled_sequence_leaves_the_other_seven_alone),
        cmocka_unit_test(statistics_and_sessions_do_not_wait_for_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
