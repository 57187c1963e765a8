/* The engine: jobs that run together give what each gives alone, whatever befalls their neighbours. */
#include "server_jobs.h"

#include "engine_gate.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTEXT 2048
#define JOBS 8

static odmoe_model *model;
static odmoe_error err;
static const char *const texts[JOBS] = {"Once upon a time",
                                        "The king said to his men",
                                        "In the beginning",
                                        "A ship with white sails came near, and they",
                                        "Peter",
                                        "There was no light in the house; only",
                                        "What is the matter?",
                                        "It was the best of times, it was"};

static int setup(void **state)
{
    odmoe_options o = demo_options(JOBS, CONTEXT);
    model = open_demo(&o);
    return 0;
}

static int teardown(void **state)
{
    odmoe_model_close(model);
    return 0;
}

static engine *engine_with(int sequences, int queue)
{
    gate_open(); /* also after a test that failed with it closed */
    engine_options o = {.sequences = sequences, .context = CONTEXT, .queue = queue};
    return open_engine(model, &o);
}

/* A job for one of the texts. */
static job *text_job(int which, int32_t max_tokens, float temperature)
{
    int32_t ids[64];
    job_request r = request_of(ids, ids_of(model, texts[which], ids, 64), max_tokens);
    r.sampling.temperature = temperature;
    r.sampling.seed = 100 + (uint64_t)which;
    r.cache_prompt = false;
    r.ignore_eos = true;
    return create_job(model, &r);
}

static void submit(engine *e, job *j)
{
    assert_int_equal(engine_submit(e, j, NULL), ENGINE_TAKEN);
}

static void finish_and_free(job *j, answer *a)
{
    finish_job(j, a);
    job_free(j);
}

/* The first delta must come. */
static void await_delta(job *j)
{
    job_event event;
    do
        assert_int_equal(job_next(j, -1, EVER_MS, &event), JOB_EVENT);
    while (event.kind == JOB_ADMITTED);
    assert_int_equal(event.kind, JOB_DELTA);
}

/* Submit the job to an engine that has nothing else to do: it has begun to decode, and the engine is held until gate_open. */
static void decode_and_hold(odmoe_model *m, engine *e, job *j)
{
    gate_close_after(m, 4);
    submit(e, j);
    await_delta(j);
    gate_await();
}

static void a_job_gives_its_text_in_deltas_and_ends(void **state)
{
    int32_t ids[64];
    int32_t n = ids_of(model, texts[0], ids, 64);
    engine *e = engine_with(1, 0);
    job_request r = request_of(ids, n, 12);
    answer a;
    run_job(e, model, &r, &a);
    assert_true(a.admitted);
    assert_true(a.content_length > 0);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.prompt_tokens, n);
    assert_int_equal(a.end.usage.sampled_tokens, 12);
    assert_int_equal(a.end.usage.cached_tokens, 0);
    assert_string_equal(a.content, a.token_bytes);

    /* as the library itself goes on */
    odmoe_session *s;
    float *logits = malloc(4096 * sizeof *logits);
    assert_int_equal(odmoe_session_create(model, CONTEXT, &s, &err), ODMOE_OK);
    assert_int_equal(odmoe_eval(s, ids, n, logits, &err), ODMOE_OK);
    for (int i = 0; i < a.n_tokens; i++) {
        int32_t best = 0;
        for (int32_t t = 1; t < 4096; t++)
            best = logits[t] > logits[best] ? t : best;
        assert_int_equal(a.tokens[i], best);
        assert_int_equal(odmoe_eval(s, &best, 1, logits, &err), ODMOE_OK);
    }
    odmoe_session_free(s);
    free(logits);
    close_engine(e);
}

/* Eight at once, greedy ones and sampled ones, while others come, are cancelled and leave. */
static void parallel_jobs_give_what_each_gives_alone(void **state)
{
    static answer alone[JOBS], together;
    engine *e = engine_with(1, 0);
    for (int i = 0; i < JOBS; i++) {
        job *j = text_job(i, 40, i % 2 ? 0.8f : 0);
        submit(e, j);
        finish_and_free(j, &alone[i]);
    }
    close_engine(e);
    e = engine_with(5, 64);
    job *jobs[JOBS], *others[JOBS];
    for (int i = 0; i < JOBS; i++) {
        others[i] = text_job((i + 3) % JOBS, 400, 1);
        submit(e, others[i]);
        jobs[i] = text_job(i, 40, i % 2 ? 0.8f : 0);
        submit(e, jobs[i]);
        if (i % 2)
            job_cancel(others[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        job_cancel(others[i]);
        finish_and_free(jobs[i], &together);
        assert_same_answer(&together, &alone[i]);
    }
    for (int i = 0; i < JOBS; i++)
        finish_and_free(others[i], &together); /* that of the last one may still run */
    engine_slot slots[5];
    assert_int_equal(engine_slots(e, slots, 5), 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(slots[i].state, SLOT_IDLE);
    close_engine(e);
}

/* A cache of fewer experts than a token needs, and turns of a few passes: together, in turn, and beside prompts. */
static void jobs_that_take_turns_give_what_each_gives_alone(void **state)
{
    static answer alone[4], together;
    odmoe_options o = demo_options(4, 512);
    o.ram_bytes = 16u << 20;
    odmoe_model *own = open_demo(&o), *shared = model;
    model = own;
    engine_options eo = {.sequences = 4, .context = 512, .queue = 8, .turn_seconds = 0.01, .wait_seconds = 0.03};
    engine *e = open_engine(own, &eo);
    for (int i = 0; i < 4; i++) {
        job *j = text_job(i, 50, i % 2 ? 0.8f : 0);
        submit(e, j);
        finish_and_free(j, &alone[i]);
    }
    job *jobs[6];
    for (int i = 0; i < 6; i++) { /* the prompts of the last ones run while others decode */
        jobs[i] = text_job(i % 4, 50, i % 2 ? 0.8f : 0);
        submit(e, jobs[i]);
    }
    for (int i = 0; i < 6; i++) {
        finish_and_free(jobs[i], &together);
        assert_same_answer(&together, &alone[i % 4]);
    }
    close_engine(e);
    model = shared;
    odmoe_model_close(own);
}

/* One pass carries all sequences: far fewer passes than tokens. */
static void sequences_share_their_passes(void **state)
{
    engine *e = engine_with(4, 0);
    job *jobs[4];
    answer a;
    engine_stats stats;
    jobs[0] = text_job(0, 300, 0);
    decode_and_hold(model, e, jobs[0]);
    for (int i = 1; i < 4; i++) {
        jobs[i] = text_job(i, 60, 0);
        submit(e, jobs[i]);
    }
    gate_open();
    for (int i = 0; i < 4; i++)
        finish_and_free(jobs[i], &a);
    engine_stats_get(e, &stats);
    assert_int_equal(stats.generated_tokens, 300 + 3 * 60);
    assert_true(stats.passes < 300 + 3 * 60);
    assert_int_equal(stats.pass_sequences.count, stats.passes);
    assert_int_equal(stats.finished_length, 4);
    assert_int_equal(stats.first_token_seconds.count, 4);
    assert_int_equal(stats.inter_token_seconds.count, 300 + 3 * 60 - 4);
    close_engine(e);
}

/* ---- the end ---- */

static void a_stop_string_ends_the_text_before_it(void **state)
{
    static answer whole, cut;
    int32_t ids[64];
    engine *e = engine_with(1, 0);
    job_request r = request_of(ids, ids_of(model, texts[0], ids, 64), 60);
    run_job(e, model, &r, &whole);
    for (size_t at = 3; at + 4 < whole.content_length && at < 40; at += 7) {
        char stop[5] = {0};
        memcpy(stop, whole.content + at, 4); /* anywhere, across tokens */
        const char *const stops[] = {"nowhere in it", stop};
        r.stop = stops;
        r.stop_count = 2;
        run_job(e, model, &r, &cut);
        size_t first = (size_t)(strstr(whole.content, stop) - whole.content);
        assert_int_equal(cut.end.finish, JOB_STOPPED_AT_STRING);
        assert_int_equal(cut.end.stop_index, 1);
        assert_int_equal(cut.content_length, first);
        assert_memory_equal(cut.content, whole.content, first);
        assert_true(cut.end.usage.sampled_tokens <= whole.end.usage.sampled_tokens);
    }
    close_engine(e);
}

static void no_tokens_at_all_run_the_prompt_and_keep_it(void **state)
{
    int32_t ids[64];
    answer a;
    engine *e = engine_with(1, 0);
    job_request r = request_of(ids, ids_of(model, texts[3], ids, 64), 0);
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.sampled_tokens, 0);
    assert_int_equal(a.deltas, 0);
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.usage.cached_tokens, r.n - 1);
    close_engine(e);
}

static void an_answer_without_limit_ends_with_the_context(void **state)
{
    engine_options o = {.sequences = 1, .context = 96};
    engine *e = open_engine(model, &o);
    answer a;
    job *j = text_job(2, -1, 0);
    submit(e, j);
    finish_and_free(j, &a);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.sampled_tokens + a.end.usage.prompt_tokens, 96);
    close_engine(e);
}

static void a_prompt_that_fills_the_context_fails_alone(void **state)
{
    static int32_t ids[96];
    engine_options o = {.sequences = 1, .context = 96};
    engine *e = open_engine(model, &o);
    answer a;
    for (int i = 0; i < 96; i++)
        ids[i] = 300 + i;
    job_request r = request_of(ids, 96, 5);
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.finish, JOB_FAILED);
    assert_int_equal(a.end.error.code, ODMOE_ERR_RANGE);
    r.n = 95;
    run_job(e, model, &r, &a);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.sampled_tokens, 1);
    close_engine(e);
}

static void what_makes_no_sense_is_refused(void **state)
{
    int32_t ids[] = {300, 5000};
    job *j = NULL;
    job_request r = request_of(ids, 2, 5);
    assert_int_equal(job_create(model, &r, &j, &err), ODMOE_ERR_RANGE); /* 4,096 tokens are all */
    r.n = 0;
    assert_int_equal(job_create(model, &r, &j, &err), ODMOE_ERR_ARG);
    r.n = 1;
    r.sampling.top_p = 7;
    assert_int_equal(job_create(model, &r, &j, &err), ODMOE_ERR_RANGE);
    r.sampling.top_p = 1;
    r.logprobs = 21;
    assert_int_equal(job_create(model, &r, &j, &err), ODMOE_ERR_ARG);
    r.logprobs = 0;
    r.format = "no such format";
    assert_int_equal(job_create(model, &r, &j, &err), ODMOE_ERR_ARG);
    assert_null(j);
}

/* ---- the queue ---- */

static void a_full_queue_takes_no_more(void **state)
{
    engine *e = engine_with(1, 2);
    job *jobs[4];
    answer a;
    int retry = 0;
    for (int i = 0; i < 4; i++)
        jobs[i] = text_job(i, 200, 0);
    gate_close_after(model, 0); /* none of them ends */
    for (int i = 0; i < 3; i++)
        submit(e, jobs[i]);
    assert_int_equal(engine_submit(e, jobs[3], &retry), ENGINE_QUEUE_FULL);
    assert_in_range(retry, 1, 60);
    engine_stats stats;
    engine_stats_get(e, &stats);
    assert_int_equal(stats.queued + stats.running, 3);
    gate_open();
    finish_and_free(jobs[0], &a);
    submit(e, jobs[3]); /* there is room again */
    for (int i = 1; i < 4; i++) {
        finish_and_free(jobs[i], &a);
        assert_int_equal(a.end.finish, JOB_LENGTH);
    }
    close_engine(e);
}

static void jobs_are_cancelled_in_each_of_their_states(void **state)
{
    engine *e = engine_with(1, 8);
    answer a;
    engine_stats stats;
    job *decoding = text_job(0, 2000, 0), *queued = text_job(1, 5, 0), *next = text_job(2, 5, 0);
    decode_and_hold(model, e, decoding);
    submit(e, queued);
    submit(e, next);
    job_cancel(queued);
    finish_and_free(queued, &a); /* at once: the first one still runs */
    assert_int_equal(a.end.finish, JOB_CANCELLED);
    assert_false(a.admitted);
    job_cancel(decoding);
    job_cancel(decoding); /* twice is fine */
    gate_open();
    finish_and_free(decoding, &a);
    assert_int_equal(a.end.finish, JOB_CANCELLED);
    assert_true(a.end.usage.sampled_tokens < 2000);
    finish_and_free(next, &a);
    assert_int_equal(a.end.finish, JOB_LENGTH);

    job *early = text_job(3, 5, 0), *never = text_job(4, 5, 0);
    job_cancel(early); /* before it is submitted */
    submit(e, early);
    finish_and_free(early, &a);
    assert_int_equal(a.end.finish, JOB_CANCELLED);
    job_free(never);
    engine_stats_get(e, &stats);
    assert_int_equal(stats.cancelled_queued, 2);
    assert_int_equal(stats.cancelled_decode, 1);
    close_engine(e);
}

static void a_cancelled_prompt_is_kept_as_far_as_it_was_computed(void **state)
{
    static int32_t ids[2000];
    answer a;
    for (int i = 0; i < 2000; i++)
        ids[i] = 300 + i * 7 % 1000;
    odmoe_options o = demo_options(1, CONTEXT);
    o.chunk = 16;
    odmoe_model *own = open_demo(&o);
    engine_options eo = {.sequences = 1, .context = CONTEXT};
    engine *e = open_engine(own, &eo);
    job_request r = request_of(ids, 2000, 1);
    job *j = create_job(own, &r);
    engine_slot slot;
    gate_close_after(own, 2);
    submit(e, j);
    gate_await();
    assert_int_equal(engine_slots(e, &slot, 1), 1);
    assert_int_equal(slot.tokens, 2 * 16);
    job_cancel(j);
    gate_open();
    finish_and_free(j, &a);
    assert_int_equal(a.end.finish, JOB_CANCELLED);
    assert_int_equal(a.deltas, 0);
    engine_stats stats;
    engine_stats_get(e, &stats);
    assert_int_equal(stats.cancelled_prompt, 1);
    run_job(e, own, &r, &a);
    assert_in_range(a.end.usage.cached_tokens, 16, 1984);
    assert_int_equal(a.end.usage.cached_tokens % 16, 0);
    close_engine(e);
    odmoe_model_close(own);
}

/* A long prompt beside running streams comes in pieces: they go on meanwhile, a token in each of the passes. */
static void a_long_prompt_does_not_stop_running_streams(void **state)
{
    static int32_t ids[1900];
    odmoe_options o = demo_options(2, CONTEXT);
    o.chunk = 64;
    odmoe_model *own = open_demo(&o);
    engine_options eo = {.sequences = 2, .context = CONTEXT};
    engine *e = open_engine(own, &eo);
    int32_t text[64];
    job_request r = request_of(text, ids_of(own, texts[0], text, 64), 1000);
    r.ignore_eos = true;
    job *stream = create_job(own, &r);
    decode_and_hold(own, e, stream);
    for (int i = 0; i < 1900; i++)
        ids[i] = 300 + i % 999;
    r = request_of(ids, 1900, 1);
    job *prompt = create_job(own, &r);
    submit(e, prompt);
    gate_open();
    answer a;
    finish_and_free(prompt, &a);
    int shared, passes = gate_prompt_passes(&shared);
    assert_true(passes >= 1900 / 64);
    assert_int_equal(shared, passes);
    job_free(stream);
    close_engine(e);
    odmoe_model_close(own);
}

/* ---- readers ---- */

/* The events of a job that nobody reads are kept up to a limit; then it waits, and the others go on. */
static void a_reader_that_does_not_read_holds_up_nobody(void **state)
{
    static int32_t ids[64], got[2000], alone[2000];
    engine *e = engine_with(2, 4);
    job_request r = request_of(ids, ids_of(model, texts[0], ids, 64), 1900);
    r.logprobs = 20;
    r.ignore_eos = true;
    r.cache_prompt = false;
    for (int round = 0; round < 2; round++) {
        int32_t *to = round ? got : alone, n = 0;
        job *slow = create_job(model, &r);
        submit(e, slow);
        for (int before = -1, now = 0; round && now != before;) {
            engine_slot slots[2];
            answer a;
            before = now;
            job *other = text_job(1, 40, 0);
            submit(e, other);
            finish_and_free(other, &a);
            assert_int_equal(a.end.finish, JOB_LENGTH);
            engine_slots(e, slots, 2);
            for (int i = 0; i < 2; i++)
                now = slots[i].state == SLOT_DECODE ? slots[i].decoded_tokens : now;
            assert_true(now < 1900);
        }
        job_event event;
        do {
            assert_int_equal(job_next(slow, -1, EVER_MS, &event), JOB_EVENT);
            for (size_t i = 0; i < event.logprob_count && event.kind == JOB_DELTA; i++)
                to[n++] = event.logprobs[i].token;
        } while (event.kind != JOB_END);
        assert_int_equal(event.finish, JOB_LENGTH);
        assert_in_range(n, 1800, 1900);
        job_free(slow);
    }
    assert_memory_equal(got, alone, sizeof got);
    close_engine(e);
}

static void a_client_that_hangs_up_is_seen(void **state)
{
    engine *e = engine_with(1, 0);
    int pair[2];
    job_event event;
    for (int half = 0; half < 2; half++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        job *idle = text_job(0, 5, 0), *j = text_job(0, 2000, 0);
        assert_int_equal(job_next(idle, pair[0], 1, &event), JOB_TIMEOUT);
        submit(e, j);
        assert_int_equal(job_next(j, pair[0], EVER_MS, &event), JOB_EVENT);
        if (half)
            shutdown(pair[1], SHUT_WR);
        else
            close(pair[1]);
        assert_int_equal(job_next(j, pair[0], EVER_MS, &event), JOB_HUNG_UP);
        assert_int_equal(job_next(idle, pair[0], EVER_MS, &event), JOB_HUNG_UP);
        job_free(j);
        job_free(idle);
        close(pair[0]);
        if (half)
            close(pair[1]);
    }
    close_engine(e);
}

/* ---- shutting down ---- */

static void *drain(void *e)
{
    engine_drain(e, EVER_MS / 1000);
    return NULL;
}

static void draining_ends_queued_jobs_and_lets_running_ones_finish(void **state)
{
    engine *e = engine_with(1, 4);
    pthread_t thread;
    answer a;
    job *running = text_job(0, 50, 0), *queued = text_job(1, 50, 0), *late = text_job(2, 50, 0);
    decode_and_hold(model, e, running);
    submit(e, queued);
    assert_int_equal(pthread_create(&thread, NULL, drain, e), 0);
    finish_and_free(queued, &a); /* at once: the first one still runs */
    assert_int_equal(a.end.finish, JOB_SHUT_DOWN);
    assert_int_equal(engine_submit(e, late, NULL), ENGINE_CLOSING);
    gate_open();
    finish_and_free(running, &a);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    pthread_join(thread, NULL);
    job_free(late);
    engine_close(e);
}

/* The test reads no events of these jobs until they are cut off, so the room for events is full before their last tokens: no
 * job ends by itself. */
static void draining_cuts_off_what_takes_too_long(void **state)
{
    engine *e = engine_with(2, 4);
    job *jobs[3];
    for (int i = 0; i < 3; i++) {
        int32_t ids[64];
        job_request r = request_of(ids, ids_of(model, texts[i], ids, 64), 1900);
        r.logprobs = 20;
        r.ignore_eos = true;
        jobs[i] = create_job(model, &r);
        submit(e, jobs[i]);
    }
    await_delta(jobs[0]);
    engine_drain(e, 0);
    for (int i = 0; i < 3; i++) {
        job_event event;
        do
            assert_int_equal(job_next(jobs[i], -1, EVER_MS, &event), JOB_EVENT);
        while (event.kind != JOB_END);
        assert_int_equal(event.finish, JOB_SHUT_DOWN);
        assert_true(event.usage.sampled_tokens < 1900);
        job_free(jobs[i]);
    }
    engine_close(e);
}

/* ---- many threads ---- */

typedef struct client {
    engine *e;
    int seed;
    const answer *alone;
} client;

static void *come_and_go(void *user)
{
    client *c = user;
    answer *a = malloc(sizeof *a);
    for (int i = 0; i < 6; i++) {
        int which = (c->seed + i) % JOBS;
        job *j = text_job(which, 20, 0);
        if (engine_submit(c->e, j, NULL) == ENGINE_TAKEN) {
            if ((c->seed + i) % 3 == 0) {
                job_event event;
                job_next(j, -1, 5, &event);
            } else {
                finish_job(j, a);
                assert_same_answer(a, &c->alone[which]);
            }
        }
        job_free(j); /* cancels what still runs */
    }
    free(a);
    return NULL;
}

static void clients_come_and_go_in_threads_of_their_own(void **state)
{
    static answer alone[JOBS];
    engine *e = engine_with(3, 64);
    pthread_t threads[JOBS];
    client clients[JOBS];
    for (int i = 0; i < JOBS; i++) {
        job *j = text_job(i, 20, 0);
        submit(e, j);
        finish_and_free(j, &alone[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        clients[i] = (client){e, i, alone};
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &clients[i]), 0);
    }
    engine_stats stats;
    engine_slot slots[3];
    do { /* looking at it disturbs nobody */
        engine_stats_get(e, &stats);
        engine_slots(e, slots, 3);
    } while (stats.finished_length < JOBS + 4);
    for (int i = 0; i < JOBS; i++)
        pthread_join(threads[i], NULL);
    engine_stats_get(e, &stats);
    assert_int_equal(stats.running + stats.queued, 0);
    close_engine(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_gives_its_text_in_deltas_and_ends),
        cmocka_unit_test(parallel_jobs_give_what_each_gives_alone),
        cmocka_unit_test(jobs_that_take_turns_give_what_each_gives_alone),
        cmocka_unit_test(sequences_share_their_passes),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(no_tokens_at_all_run_the_prompt_and_keep_it),
        cmocka_unit_test(an_answer_without_limit_ends_with_the_context),
        cmocka_unit_test(a_prompt_that_fills_the_context_fails_alone),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_full_queue_takes_no_more),
        cmocka_unit_test(jobs_are_cancelled_in_each_of_their_states),
        cmocka_unit_test(a_cancelled_prompt_is_kept_as_far_as_it_was_computed),
        cmocka_unit_test(a_long_prompt_does_not_stop_running_streams),
        cmocka_unit_test(a_reader_that_does_not_read_holds_up_nobody),
        cmocka_unit_test(a_client_that_hangs_up_is_seen),
        cmocka_unit_test(draining_ends_queued_jobs_and_lets_running_ones_finish),
        cmocka_unit_test(draining_cuts_off_what_takes_too_long),
        cmocka_unit_test(clients_come_and_go_in_threads_of_their_own),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
