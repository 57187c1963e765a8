/* The k-th allocation fails while a model is opened, run, saved and loaded: each time the status is ERR_MEMORY, nothing
 * is left behind, and the next attempt works. Allocations are those of the heap, of pages (mmap) and of threads. */
#include "failing_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "support/golden.h"
#include "support/models.h"

#define MODEL "gguf/qwen2moe-Q4_K_M.gguf" /* it has a tokenizer, biases and a shared expert */

/* ---- pages and threads ---- */

static _Atomic long pages_left = -1, threads_left = -1; /* calls until one fails; negative: none does */
static _Atomic long page_calls, thread_calls, mapped;

void *__real_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t length);
int __wrap_munmap(void *at, size_t length);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *ctx);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *ctx);

void *__wrap_mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
    page_calls++;
    if (pages_left >= 0 && pages_left-- == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    mapped++;
    return __real_mmap(at, length, prot, flags, fd, offset);
}

void *__wrap_mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, length, prot, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t length)
{
    mapped--;
    return __real_munmap(at, length);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *ctx)
{
    thread_calls++;
    return threads_left >= 0 && threads_left-- == 0 ? EAGAIN : __real_pthread_create(thread, attr, run, ctx);
}

/* ---- what is tried ---- */

typedef struct attempt {
    const char *path, *io;
} attempt;

static odmoe_status use_session(odmoe_model *model, odmoe_session *session, odmoe_error *err)
{
    static float logits[1024];
    char saved[1024];
    snprintf(saved, sizeof saved, "%s", temp_path("session"));
    odmoe_status status = odmoe_eval(session, text_tokens(0, 5), 5, logits, err);
    if (!status)
        status = odmoe_session_save(session, saved, err);
    if (!status)
        status = odmoe_session_load(session, saved, err);
    if (!status && odmoe_model_tokenizer(model)) {
        int32_t ids[8];
        size_t n;
        status = odmoe_tokenize(odmoe_model_tokenizer(model), "once", 4, 0, ids, 8, &n, err);
    }
    return status;
}

static odmoe_status open_and_use(const void *ctx, odmoe_error *err)
{
    const attempt *a = ctx;
    odmoe_options o = small_options();
    odmoe_model *model = NULL;
    odmoe_session *session = NULL;
    o.io = a->io;
    odmoe_status status = odmoe_model_open(a->path, &o, &model, err);
    if (!status)
        status = odmoe_session_create(model, 0, &session, err);
    if (!status)
        status = use_session(model, session, err);
    odmoe_session_free(session);
    odmoe_model_close(model);
    return status;
}

static odmoe_status plan_and_inspect(const void *ctx, odmoe_error *err)
{
    const attempt *a = ctx;
    odmoe_options o = small_options();
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_info info = {.size = sizeof info};
    odmoe_status status = odmoe_inspect(a->path, &info, err);
    return status ? status : odmoe_plan_make(a->path, &o, &plan, err);
}

static attempt gguf_model(const char *io)
{
    return (attempt){test_path(MODEL), io};
}

/* ---- tests ---- */

static void a_failed_allocation_while_opening_or_running_leaves_nothing_behind(void **state)
{
    attempt a = gguf_model("buffered");
    fail_each(open_and_use, &a, 50, ODMOE_OK);
    a = gguf_model("auto");
    fail_each(open_and_use, &a, 50, ODMOE_OK);
    a = (attempt){test_path("families/kimi_k25"), "buffered"}; /* scales apart */
    fail_each(open_and_use, &a, 50, ODMOE_OK);
}

static void a_failed_allocation_while_planning_leaves_nothing_behind(void **state)
{
    attempt a = gguf_model("auto");
    fail_each(plan_and_inspect, &a, 50, ODMOE_OK);
    a = (attempt){test_path("models/mixtral"), "auto"};
    fail_each(plan_and_inspect, &a, 50, ODMOE_OK);
    a = (attempt){test_path("families/qwen3_moe_fp8"), "auto"}; /* scales that stay in memory */
    fail_each(plan_and_inspect, &a, 50, ODMOE_OK);
}

/* The k-th call of one kind fails, for every k. */
static void fail_each_of(_Atomic long *left, _Atomic long *calls, const char *word)
{
    attempt a = gguf_model("buffered");
    for (long k = 0;; k++) {
        odmoe_error err = {0};
        *calls = mapped = 0;
        *left = k;
        odmoe_status status = open_and_use(&a, &err);
        *left = -1;
        if (*calls <= k) {
            assert_int_equal(status, ODMOE_OK);
            assert_true(k > 2);
            return;
        }
        if (status)
            assert_error(&err, status, ODMOE_ERR_MEMORY, word, " ");
        assert_int_equal(mapped, 0);
    }
}

static void failed_pages_leave_nothing_behind(void **state)
{
    fail_each_of(&pages_left, &page_calls, "no memory");
}

static void failed_threads_leave_nothing_behind(void **state)
{
    fail_each_of(&threads_left, &thread_calls, "thread");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_allocation_while_opening_or_running_leaves_nothing_behind),
        cmocka_unit_test(a_failed_allocation_while_planning_leaves_nothing_behind),
        cmocka_unit_test(failed_pages_leave_nothing_behind),
        cmocka_unit_test(failed_threads_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
