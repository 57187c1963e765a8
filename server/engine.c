/* engine.c - the queue, the sequences, and the thread that runs passes.
 *
 *   queue -> slot: PROMPT -> DECODE -> idle, its tokens kept for the next one
 *
 * Locks: engine.lock guards the queue, the figures and what slots show; it is held for a few instructions and never
 * during a pass. A job's lock is taken inside it, never around it. What a slot computes with is the engine thread's own. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine_inside.h"
#include "generation.h"
#include "job_inside.h"
#include "slots.h"
#include "thread.h"
#include "turns.h"

#define PASS_SECONDS 2.0  /* that a pass may take beside running streams */
#define TURN_SECONDS 2.0  /* that a stream's turn takes at most... */
#define WAIT_SECONDS 4.0  /* ...and that one waits for its next turn */
#define CHUNK_ROWS_MIN 32 /* of a prompt, all the same */
#define RATE_WEIGHT 0.3   /* of the latest measurement */
#define RETRY_MAX 60

static const double seconds_bounds[] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};
static const double token_bounds[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5};
static const double sequences_bounds[] = {1, 2, 4, 8, 16};
#define HISTOGRAM(b) ((histogram){.bounds = (b), .n = sizeof(b) / sizeof *(b)})

struct engine {
    odmoe_model *model;
    engine_options options;
    slots slots;
    int32_t chunk;
    double row_seconds;     /* of a prompt's row; 0: not measured */
    double request_seconds; /* of a job, from admission */
    int turn;               /* the slot whose prompt comes first */
    turns turns;            /* of the slots that decode */
    uint64_t turns_begun;   /* slot.turned of the one whose turn it is */
    /* The pass under way. */
    odmoe_sequence *sequences; /* [options.sequences] */
    slot **owners;             /* [options.sequences] */
    int32_t pass_n;
    uint64_t read; /* expert bytes, up to the end of the last one */
    double stalled;

    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something for the thread to do */
    pthread_cond_t quiet;   /* no job is left */
    job *first, *last;      /* the queue */
    int queued, running;
    bool closing, hurry, stop;
    bool news;          /* the prefixes' thread has done something */
    engine_slot *shown; /* [options.sequences] */
    engine_stats stats;
};

/* ---- the end of a job ---- */

static void count_end(engine *e, const job *j, job_finish finish, slot_state state)
{
    engine_stats *s = &e->stats;
    double now = clock_seconds();
    histogram_add(&s->request_seconds, now - j->submitted);
    switch (finish) {
    case JOB_CANCELLED:
        *(state == SLOT_DECODE   ? &s->cancelled_decode
          : state == SLOT_PROMPT ? &s->cancelled_prompt
                                 : &s->cancelled_queued) += 1;
        break;
    case JOB_LENGTH:
        s->finished_length++;
        break;
    case JOB_FAILED:
    case JOB_SHUT_DOWN:
        s->finished_failed++;
        break;
    default:
        *(j->usage.calls ? &s->finished_calls : &s->finished_stop) += 1;
    }
}

/* A job that waits leaves. The lock is held, and the job is in the queue no longer. */
static void end_queued(engine *e, job *j, job_finish finish)
{
    odmoe_error none = {0};
    e->queued--;
    j->usage.queue_seconds = clock_seconds() - j->submitted;
    count_end(e, j, finish, SLOT_IDLE);
    if (!e->queued && !e->running)
        pthread_cond_broadcast(&e->quiet);
    job_end(j, finish, 0, &none);
}

/* The slot's job has ended as its generation says. */
static void end_running(engine *e, slot *s)
{
    job *j = s->job;
    const generation_result *r = generation_result_of(j->generation);
    double now = clock_seconds();
    j->usage.sampled_tokens = r->sampled;
    j->usage.reasoning_tokens = r->reasoning;
    j->usage.calls = r->calls;
    j->usage.prompt_seconds = (j->first_token ? j->first_token : now) - j->admitted;
    j->usage.decode_seconds = j->first_token ? j->last_token - j->first_token : 0;
    slot_state state = s->state;
    slots_release(&e->slots, s);
    pthread_mutex_lock(&e->lock);
    count_end(e, j, r->finish, state);
    double seconds = now - j->admitted;
    e->request_seconds += e->request_seconds ? RATE_WEIGHT * (seconds - e->request_seconds) : seconds;
    e->running--;
    e->shown[s->id].state = SLOT_IDLE;
    e->shown[s->id].request_id[0] = 0;
    e->shown[s->id].tokens = odmoe_session_length(s->session);
    if (!e->queued && !e->running)
        pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    job_end(j, r->finish, r->stop_index, &r->error);
}

static void end_with(engine *e, slot *s, job_finish finish, const odmoe_error *why)
{
    generation_end(s->job->generation, finish, why);
    end_running(e, s);
}

/* ---- admission ---- */

/* The slot is where the job's prompt goes on: tell everybody. */
static void begin_prompt(engine *e, slot *s)
{
    job *j = s->job;
    uint64_t disk = (uint64_t)j->usage.cached_from_disk, all = (uint64_t)j->usage.cached_tokens;
    s->limit = generation_limit(j->generation, e->slots.context);
    pthread_mutex_lock(&e->lock);
    e->shown[s->id].cached_tokens = e->shown[s->id].tokens = j->usage.cached_tokens;
    e->stats.prompt_tokens_cached[PREFIX_DISK] += disk;
    e->stats.prompt_tokens_cached[PREFIX_MEMORY] += all - disk;
    pthread_mutex_unlock(&e->lock);
    job_admitted(j);
    if (j->n >= e->slots.context) {
        odmoe_error why = {ODMOE_ERR_RANGE, "the prompt fills the whole context; shorten it"};
        end_with(e, s, JOB_FAILED, &why);
    }
}

static void show_slot(engine *e, slot *s)
{
    job *j = s->job;
    pthread_mutex_lock(&e->lock);
    s->state = SLOT_PROMPT;
    engine_slot *shown = &e->shown[s->id];
    memcpy(shown->request_id, j->id, sizeof shown->request_id);
    shown->state = SLOT_PROMPT;
    shown->prompt_tokens = j->n;
    shown->cached_tokens = shown->decoded_tokens = shown->tokens = 0;
    shown->seconds = j->admitted;
    histogram_add(&e->stats.queue_seconds, j->usage.queue_seconds);
    pthread_mutex_unlock(&e->lock);
}

/* No session could be had: back to the front of the queue until forks are written, or, if there are none, its end. */
static void not_placed(engine *e, job *j, const odmoe_error *why)
{
    pthread_mutex_lock(&e->lock);
    e->running--;
    if (e->slots.no_room && !e->closing) {
        j->next = e->first;
        e->first = j;
        e->last = e->last ? e->last : j;
        e->queued++;
        pthread_mutex_unlock(&e->lock);
        return;
    }
    job_finish finish = e->closing ? JOB_SHUT_DOWN : JOB_FAILED;
    count_end(e, j, finish, SLOT_IDLE);
    if (!e->queued && !e->running)
        pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    job_end(j, finish, 0, why);
}

static void admit(engine *e, job *j)
{
    odmoe_error why;
    slot *s;
    bool loading;
    j->admitted = clock_seconds();
    j->usage.queue_seconds = j->admitted - j->submitted;
    if (slots_place(&e->slots, j, &s, &loading, &why)) {
        not_placed(e, j, &why);
        return;
    }
    show_slot(e, s);
    if (!loading)
        begin_prompt(e, s);
}

/* Files that have been read meanwhile. */
static void settle_loads(engine *e)
{
    for (int i = 0; i < e->slots.n; i++) {
        slot *s = &e->slots.at[i];
        int state = atomic_load(&s->load.state);
        if (state == LOAD_DONE || state == LOAD_FAILED) {
            slots_settle(&e->slots, s);
            begin_prompt(e, s);
        }
    }
}

static bool is_loading(slot *s)
{
    return atomic_load(&s->load.state) != LOAD_NONE;
}

/* The first job of the queue that is not cancelled. NULL: none. */
static job *next_queued(engine *e)
{
    job *j;
    pthread_mutex_lock(&e->lock);
    while ((j = e->first)) {
        e->first = j->next;
        if (!e->first)
            e->last = NULL;
        if (!atomic_load(&j->cancelled)) {
            e->queued--;
            e->running++;
            break;
        }
        end_queued(e, j, JOB_CANCELLED);
    }
    pthread_mutex_unlock(&e->lock);
    return j;
}

static void admit_all(engine *e)
{
    job *j;
    while (slots_may_place(&e->slots) && (j = next_queued(e)))
        admit(e, j);
}

/* ---- a pass ---- */

static void add(engine *e, slot *s, const int32_t *tokens, int32_t n, odmoe_phase phase, bool logits)
{
    e->owners[e->pass_n] = s;
    s->goes_on = true;
    e->sequences[e->pass_n++] = (odmoe_sequence){.session = s->session,
                                                 .tokens = tokens,
                                                 .n = n,
                                                 .phase = phase,
                                                 .want_logits = logits ? ODMOE_LOGITS_LAST : ODMOE_LOGITS_NONE};
}

/* How many rows of prompts fit into a pass that decodes `decoded` rows. */
static int32_t prompt_rows(const engine *e, int32_t decoded)
{
    int32_t rows = e->chunk > decoded ? e->chunk - decoded : 1;
    if (!decoded)
        return rows;
    double fit = e->row_seconds > 0 ? PASS_SECONDS / e->row_seconds : CHUNK_ROWS_MIN;
    int32_t least = rows < CHUNK_ROWS_MIN ? rows : CHUNK_ROWS_MIN;
    return fit >= rows ? rows : fit < least ? least : (int32_t)fit;
}

static bool has_prompt(slot *s)
{
    return s->state == SLOT_PROMPT && !s->starved && !is_loading(s);
}

/* Of the n sequences in e->owners, keep those that go into the pass: all, or the one whose turn it is. */
static int32_t take_turns(engine *e, int32_t n)
{
    bool anew;
    if (turns_next(&e->turns, n, &anew) == n)
        return n;
    slot *next = e->owners[0];
    for (int32_t i = 0; i < n; i++) {
        slot *s = e->owners[i];
        next = s->turned < next->turned ? s : next;
    }
    for (int32_t i = 0; i < n && !anew; i++)
        if (e->owners[i]->turned == e->turns_begun) {
            e->owners[0] = e->owners[i];
            return 1;
        }
    next->turned = ++e->turns_begun;
    e->owners[0] = next;
    return 1;
}

/* The rows of the sequences that decode: of all beside a prompt, which needs most experts anyway. */
static void add_decoding(engine *e, bool prompts)
{
    int32_t n = 0;
    for (int i = 0; i < e->slots.n; i++) {
        slot *s = &e->slots.at[i];
        if (s->state == SLOT_DECODE && !s->starved && !job_full(s->job))
            e->owners[n++] = s;
    }
    if (n && !prompts)
        n = take_turns(e, n);
    for (int32_t i = 0; i < n; i++) {
        slot *s = e->owners[i];
        s->input = s->next;
        add(e, s, &s->input, 1, ODMOE_PHASE_DECODE, true);
    }
}

/* Choose what goes into the next pass; returns the rows of prompts. */
static int32_t fill_pass(engine *e)
{
    int32_t n = e->slots.n, rows, used = 0;
    bool prompts = false;
    for (int i = 0; i < n; i++)
        prompts = prompts || has_prompt(&e->slots.at[i]);
    e->pass_n = 0;
    add_decoding(e, prompts);
    rows = prompt_rows(e, e->pass_n);
    int first = e->turn;
    for (int i = 0; i < n && used < rows; i++) {
        slot *s = &e->slots.at[(first + i) % n];
        if (!has_prompt(s))
            continue;
        int32_t done = odmoe_session_length(s->session), left = slots_prompt_end(&e->slots, s, done) - done;
        int32_t take = left < rows - used ? left : rows - used;
        bool last = done + take == s->job->n;
        add(e, s, s->job->tokens + done, take, ODMOE_PHASE_PROMPT, last && s->limit > 0);
        used += take;
        e->turn = (s->id + 1) % n;
    }
    return used;
}

static void on_logits(void *user, int32_t sequence, int32_t token, const float *logits)
{
    engine *e = user;
    slot *s = e->owners[sequence];
    job *j = s->job;
    double now = clock_seconds();
    const generation_result *r = generation_result_of(j->generation);
    int32_t before = r->sampled;
    s->goes_on = generation_next(j->generation, logits, s->limit, &s->next);
    if (!j->first_token) {
        j->first_token = now;
        j->usage.first_token_seconds = now - j->submitted;
    }
    pthread_mutex_lock(&e->lock);
    e->stats.generated_tokens += (uint64_t)(r->sampled - before);
    histogram_add(j->last_token ? &e->stats.inter_token_seconds : &e->stats.first_token_seconds,
                  now - (j->last_token ? j->last_token : j->submitted));
    pthread_mutex_unlock(&e->lock);
    j->last_token = now;
}

/* Asked between layers: when the server ends and its time is up, so does the pass. */
static int cancelled(void *user, int32_t sequence)
{
    engine *e = user;
    pthread_mutex_lock(&e->lock);
    bool hurry = e->hurry;
    pthread_mutex_unlock(&e->lock);
    return hurry;
}

/* What a pass did to one of its sequences. */
static void after_pass(engine *e, int32_t i)
{
    slot *s = e->owners[i];
    const odmoe_sequence *q = &e->sequences[i];
    if (q->status == ODMOE_ERR_CANCELLED) {
        end_with(e, s, JOB_SHUT_DOWN, NULL);
        return;
    }
    if (q->status == ODMOE_ERR_BUDGET && slots_starved(&e->slots, s))
        return; /* once more, when there are pages */
    if (q->status) {
        end_with(e, s, JOB_FAILED, &q->error);
        return;
    }
    slots_grew(&e->slots, s);
    pthread_mutex_lock(&e->lock);
    if (q->phase == ODMOE_PHASE_PROMPT)
        e->stats.prompt_tokens_computed += (uint64_t)q->n;
    e->shown[s->id].tokens = odmoe_session_length(s->session);
    if (q->want_logits) {
        s->state = e->shown[s->id].state = SLOT_DECODE;
        e->shown[s->id].decoded_tokens++;
    }
    pthread_mutex_unlock(&e->lock);
    if (!s->goes_on)
        end_running(e, s);
    else if (odmoe_session_length(s->session) == s->job->n && !s->limit)
        end_with(e, s, JOB_LENGTH, NULL);
}

/* What has been read, and waited for, since the last pass, divided among the sequences of this one. If all of them
 * decode, it tells how many should. */
static void share_costs(engine *e, bool prompts, double seconds)
{
    odmoe_stats now = {.size = sizeof now};
    odmoe_stats_get(e->model, &now);
    bool reset = now.bytes_read < e->read || now.stall_seconds < e->stalled;
    uint64_t read = reset ? now.bytes_read : now.bytes_read - e->read;
    double stalled = reset ? now.stall_seconds : now.stall_seconds - e->stalled;
    e->read = now.bytes_read;
    e->stalled = now.stall_seconds;
    for (int32_t i = 0; i < e->pass_n; i++) {
        job_usage *u = &e->owners[i]->job->usage;
        u->expert_bytes_read += read / (uint64_t)e->pass_n;
        u->stall_seconds += stalled / e->pass_n;
    }
    prefixes_reading(e->slots.prefixes, read > 0);
    if (!prompts)
        turns_passed(&e->turns, e->pass_n, (double)read, seconds, stalled);
}

static void run_pass(engine *e)
{
    int32_t rows = fill_pass(e);
    if (!e->pass_n)
        return;
    odmoe_batch batch;
    odmoe_batch_init(&batch);
    batch.sequences = e->sequences;
    batch.n = e->pass_n;
    batch.on_logits = on_logits;
    batch.cancelled = cancelled;
    batch.user = e;
    odmoe_error why;
    double start = clock_seconds();
    odmoe_status status = odmoe_forward(e->model, &batch, &why);
    bool told = false; /* which sequence it was */
    for (int32_t i = 0; i < e->pass_n; i++)
        told = told || e->sequences[i].status;
    for (int32_t i = 0; i < e->pass_n && status && !told; i++) {
        e->sequences[i].status = status;
        e->sequences[i].error = why;
    }
    double seconds = clock_seconds() - start;
    if (rows && !status)
        e->row_seconds += e->row_seconds ? RATE_WEIGHT * (seconds / rows - e->row_seconds) : seconds / rows;
    share_costs(e, rows > 0, seconds);
    pthread_mutex_lock(&e->lock);
    e->stats.passes++;
    histogram_add(&e->stats.pass_sequences, e->pass_n);
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < e->pass_n; i++)
        after_pass(e, i);
}

/* ---- the thread ---- */

/* Jobs that were cancelled, or that the server's end cuts off. */
static void end_cancelled(engine *e, bool hurry)
{
    for (int i = 0; i < e->slots.n; i++) {
        slot *s = &e->slots.at[i];
        if (!s->job || is_loading(s))
            continue;
        if (atomic_load(&s->job->cancelled))
            end_with(e, s, JOB_CANCELLED, NULL);
        else if (hurry)
            end_with(e, s, JOB_SHUT_DOWN, NULL);
    }
}

/* Is there something to do? The lock is held. */
static bool has_work(engine *e)
{
    if (e->news || (e->first && slots_may_place(&e->slots)))
        return true;
    for (int i = 0; i < e->slots.n; i++) {
        slot *s = &e->slots.at[i];
        if (!s->job || is_loading(s))
            continue;
        if (e->hurry || atomic_load(&s->job->cancelled))
            return true;
        if (!s->starved && (s->state == SLOT_PROMPT || !job_full(s->job)))
            return true;
    }
    return false;
}

static void *run(void *user)
{
    engine *e = user;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        if (!has_work(e))
            prefixes_reading(e->slots.prefixes, false);
        while (!e->stop && !has_work(e))
            pthread_cond_wait(&e->changed, &e->lock);
        bool stop = e->stop, hurry = e->hurry;
        if (e->news)
            slots_retry(&e->slots);
        e->news = false;
        pthread_mutex_unlock(&e->lock);
        if (stop)
            return NULL;
        settle_loads(e);
        end_cancelled(e, hurry);
        admit_all(e);
        run_pass(e);
        slots_save(&e->slots);
        pthread_mutex_lock(&e->lock);
        prefixes_stats(e->slots.prefixes, &e->stats);
        pthread_mutex_unlock(&e->lock);
    }
}

/* The prefixes' thread has written or read something. */
static void on_news(void *user)
{
    engine *e = user;
    pthread_mutex_lock(&e->lock);
    e->news = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

void engine_wake(engine *e)
{
    pthread_mutex_lock(&e->lock);
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

void engine_job_cancelled(engine *e, job *j)
{
    pthread_mutex_lock(&e->lock);
    job *before = NULL, *at = e->first;
    while (at && at != j) {
        before = at;
        at = at->next;
    }
    if (at) {
        *(before ? &before->next : &e->first) = j->next;
        if (e->last == j)
            e->last = before;
        end_queued(e, j, JOB_CANCELLED);
    }
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

/* ---- opening and closing ---- */

static odmoe_status open_parts(engine *e, odmoe_error *err)
{
    size_t n = (size_t)e->options.sequences;
    e->shown = calloc(n, sizeof *e->shown);
    e->sequences = calloc(n, sizeof *e->sequences);
    e->owners = calloc(n, sizeof *e->owners);
    if (!e->shown || !e->sequences || !e->owners) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for the engine"};
        return ODMOE_ERR_MEMORY;
    }
    odmoe_status status = slots_open(&e->slots, e->model, &e->options, on_news, e, err);
    for (size_t i = 0; i < n && !status; i++) {
        e->shown[i].id = (int)i;
        e->shown[i].context = e->slots.context;
    }
    if (!status)
        prefixes_stats(e->slots.prefixes, &e->stats);
    return status;
}

odmoe_status engine_open(odmoe_model *model, const engine_options *options, engine **out, odmoe_error *err)
{
    if (options->sequences < 1 || options->queue < 0) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_ARG, "an engine needs at least one sequence"};
        return ODMOE_ERR_ARG;
    }
    engine *e = calloc(1, sizeof *e);
    if (!e) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for the engine"};
        return ODMOE_ERR_MEMORY;
    }
    e->model = model;
    e->options = *options;
    turns_init(&e->turns, options->turn_seconds > 0 ? options->turn_seconds : TURN_SECONDS,
               options->wait_seconds > 0 ? options->wait_seconds : WAIT_SECONDS);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->quiet, &attributes);
    pthread_condattr_destroy(&attributes);
    e->stats = (engine_stats){.pass_sequences = HISTOGRAM(sequences_bounds),
                              .queue_seconds = HISTOGRAM(seconds_bounds),
                              .first_token_seconds = HISTOGRAM(seconds_bounds),
                              .inter_token_seconds = HISTOGRAM(token_bounds),
                              .request_seconds = HISTOGRAM(seconds_bounds)};
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(model, &plan);
    e->chunk = plan.chunk;
    odmoe_status status = open_parts(e, err);
    if (!status) {
        e->thread_runs = thread_start(&e->thread, run, e);
        if (!e->thread_runs) {
            if (err)
                *err = (odmoe_error){ODMOE_ERR_MEMORY, "the system gave no thread for the engine"};
            status = ODMOE_ERR_MEMORY;
        }
    }
    if (status)
        engine_close(e);
    else
        *out = e;
    return status;
}

static void stop_thread(engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->closing = e->hurry = e->stop = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
    if (e->thread_runs)
        pthread_join(e->thread, NULL);
    e->thread_runs = false;
}

void engine_drain(engine *e, double seconds)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    seconds = seconds < 0 ? 0 : seconds > 1e6 ? 1e6 : seconds;
    end.tv_sec += (time_t)seconds;
    end.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (end.tv_nsec >= 1000000000L) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    while (e->first) {
        job *j = e->first;
        e->first = j->next;
        end_queued(e, j, JOB_SHUT_DOWN);
    }
    e->last = NULL;
    int late = 0;
    while (e->running && !late)
        late = pthread_cond_timedwait(&e->quiet, &e->lock, &end);
    e->hurry = true;
    pthread_cond_signal(&e->changed);
    while (e->running)
        pthread_cond_wait(&e->quiet, &e->lock);
    pthread_mutex_unlock(&e->lock);
    stop_thread(e);
    slots_save_all(&e->slots);
}

void engine_close(engine *e)
{
    if (!e)
        return;
    stop_thread(e);
    slots_close(&e->slots);
    free(e->shown);
    free(e->sequences);
    free(e->owners);
    pthread_cond_destroy(&e->quiet);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---- submitting ---- */

/* Seconds until a place in the queue is likely to be free. The lock is held. */
static int retry_after(const engine *e)
{
    double seconds = e->request_seconds / e->options.sequences;
    return seconds < 1 ? 1 : seconds > RETRY_MAX ? RETRY_MAX : (int)(seconds + 0.999);
}

engine_answer engine_submit(engine *e, job *j, int *retry)
{
    engine_answer answer = ENGINE_TAKEN;
    pthread_mutex_lock(&e->lock);
    int free_slots = e->options.sequences - e->running;
    if (e->closing) {
        answer = ENGINE_CLOSING;
    } else if (e->queued >= e->options.queue + free_slots) {
        answer = ENGINE_QUEUE_FULL;
        if (retry)
            *retry = retry_after(e);
    } else {
        job_submitted(j, e);
        j->submitted = clock_seconds();
        j->next = NULL;
        *(e->last ? &e->last->next : &e->first) = j;
        e->last = j;
        e->queued++;
        pthread_cond_signal(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    return answer;
}

/* ---- what is shown ---- */

int engine_slots(engine *e, engine_slot *out, int room)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < room && i < e->options.sequences; i++) {
        out[i] = e->shown[i];
        out[i].seconds = out[i].state == SLOT_IDLE ? 0 : clock_seconds() - out[i].seconds;
    }
    pthread_mutex_unlock(&e->lock);
    return e->options.sequences;
}

void engine_stats_get(engine *e, engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->running = e->running;
    out->queued = e->queued;
    pthread_mutex_unlock(&e->lock);
}
