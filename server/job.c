#include "job_inside.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine_inside.h"
#include "generation.h"

/* ---- creating ---- */

static odmoe_status no_memory(odmoe_error *err)
{
    if (err)
        *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for a generation; try again later"};
    return ODMOE_ERR_MEMORY;
}

/* A copy of n int32; false: no memory. */
static bool copy_ids(int32_t **to, const int32_t *from, size_t n)
{
    *to = malloc((n ? n : 1) * sizeof **to);
    if (*to && n)
        memcpy(*to, from, n * sizeof **to);
    return *to != NULL;
}

static odmoe_status fill(job *j, const odmoe_model *model, const job_request *r, odmoe_error *err)
{
    strncpy(j->id, r->id ? r->id : "", sizeof j->id - 1);
    j->n = r->n;
    j->cache_prompt = r->cache_prompt;
    j->checkpoint_count = r->checkpoint_count;
    if (!copy_ids(&j->tokens, r->tokens, (size_t)r->n) ||
        !copy_ids(&j->checkpoints, r->checkpoints, r->checkpoint_count))
        return no_memory(err);
    return generation_create(model, r, j, &j->generation, err);
}

odmoe_status job_create(const odmoe_model *model, const job_request *r, job **out, odmoe_error *err)
{
    job *j = r->n < 1 ? NULL : calloc(1, sizeof *j);
    if (!j) {
        odmoe_grammar_free(r->grammar);
        if (r->n >= 1)
            return no_memory(err);
        if (err)
            *err = (odmoe_error){ODMOE_ERR_ARG, "a prompt needs at least one token"};
        return ODMOE_ERR_ARG;
    }
    j->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->left, NULL);
    j->usage.prompt_tokens = r->n;
    odmoe_status status = fill(j, model, r, err);
    if (!j->generation) /* which owns the grammar, once it is there */
        odmoe_grammar_free(r->grammar);
    if (!status && j->event_fd < 0) {
        if (err)
            *err = (odmoe_error){ODMOE_ERR_MEMORY, "no file descriptor for a generation is left; try again later"};
        status = ODMOE_ERR_MEMORY;
    }
    if (status)
        job_free(j);
    else
        *out = j;
    return status;
}

static void free_node(job_node *n)
{
    if (n && !n->embedded)
        free(n);
}

void job_free(job *j)
{
    if (!j)
        return;
    job_cancel(j);
    pthread_mutex_lock(&j->lock);
    while (j->engine)
        pthread_cond_wait(&j->left, &j->lock);
    pthread_mutex_unlock(&j->lock);
    free_node(j->taken);
    while (j->first) {
        job_node *next = j->first->next;
        free_node(j->first);
        j->first = next;
    }
    generation_free(j->generation);
    pthread_cond_destroy(&j->left);
    pthread_mutex_destroy(&j->lock);
    if (j->event_fd >= 0)
        close(j->event_fd);
    free(j->checkpoints);
    free(j->tokens);
    free(j);
}

void job_cancel(job *j)
{
    atomic_store(&j->cancelled, true);
    pthread_mutex_lock(&j->lock);
    engine *e = j->engine; /* it outlives the jobs */
    pthread_mutex_unlock(&j->lock);
    if (e)
        engine_job_cancelled(e, j);
}

/* ---- events, from the engine ---- */

/* Room for more behind the node, copied one after the other. */
static void *put(char **at, const void *from, size_t n)
{
    void *to = *at;
    if (n)
        memcpy(to, from, n);
    *at += (n + 15) & ~(size_t)15;
    return to;
}

static size_t room_for(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static size_t text_room(const char *text)
{
    return text ? room_for(strlen(text) + 1) : 0;
}

static job_node *make_delta(const odmoe_delta *d, const job_logprob *logprobs, size_t n, size_t best)
{
    size_t bytes = room_for(sizeof(job_node)) + room_for(d->length + 1) + text_room(d->name) + text_room(d->id) +
                   room_for(n * sizeof *logprobs);
    for (size_t i = 0; i < n; i++)
        bytes += room_for(logprobs[i].length) + room_for(best * sizeof(odmoe_logprob));
    job_node *node = malloc(bytes);
    if (!node)
        return NULL;
    *node = (job_node){.bytes = bytes, .event = {.kind = JOB_DELTA, .delta = *d, .logprob_count = n}};
    job_event *e = &node->event;
    char *at = (char *)node + room_for(sizeof *node);
    char *text = put(&at, d->text, d->length);
    at = text + room_for(d->length + 1);
    text[d->length] = 0;
    e->delta.text = text;
    e->delta.name = d->name ? put(&at, d->name, strlen(d->name) + 1) : NULL;
    e->delta.id = d->id ? put(&at, d->id, strlen(d->id) + 1) : NULL;
    job_logprob *copies = put(&at, logprobs, n * sizeof *logprobs);
    for (size_t i = 0; i < n; i++) {
        copies[i].bytes = put(&at, logprobs[i].bytes, logprobs[i].length);
        copies[i].best = put(&at, logprobs[i].best, best * sizeof(odmoe_logprob));
    }
    e->logprobs = n ? copies : NULL;
    return node;
}

/* The lock is held. */
static void append(job *j, job_node *node)
{
    node->next = NULL;
    if (j->last)
        j->last->next = node;
    else
        j->first = node;
    j->last = node;
    j->bytes += node->bytes;
    uint64_t one = 1;
    ssize_t written = write(j->event_fd, &one, sizeof one); /* fails only where it is readable anyway */
    (void)written;
}

void job_submitted(job *j, engine *e)
{
    pthread_mutex_lock(&j->lock);
    j->engine = e;
    pthread_mutex_unlock(&j->lock);
}

void job_admitted(job *j)
{
    j->admission = (job_node){.embedded = true, .event = {.kind = JOB_ADMITTED, .usage = j->usage}};
    pthread_mutex_lock(&j->lock);
    append(j, &j->admission);
    pthread_mutex_unlock(&j->lock);
}

bool job_delta(job *j, const odmoe_delta *delta, const job_logprob *logprobs, size_t n, size_t best)
{
    job_node *node = make_delta(delta, logprobs, n, best);
    if (!node)
        return false;
    pthread_mutex_lock(&j->lock);
    append(j, node);
    pthread_mutex_unlock(&j->lock);
    return true;
}

void job_end(job *j, job_finish finish, int stop_index, const odmoe_error *error)
{
    j->ending = (job_node){
        .embedded = true,
        .event = {.kind = JOB_END, .finish = finish, .stop_index = stop_index, .error = *error, .usage = j->usage}};
    pthread_mutex_lock(&j->lock);
    append(j, &j->ending);
    j->engine = NULL;
    pthread_cond_broadcast(&j->left);
    pthread_mutex_unlock(&j->lock);
}

bool job_full(job *j)
{
    pthread_mutex_lock(&j->lock);
    bool full = j->bytes >= JOB_EVENTS_BYTES_MAX;
    pthread_mutex_unlock(&j->lock);
    return full;
}

/* ---- events, to the reader ---- */

/* The first event, out of the queue; NULL: there is none. *caught_up: the engine may go on with the job. */
static job_node *take(job *j, engine **caught_up)
{
    pthread_mutex_lock(&j->lock);
    job_node *node = j->first;
    if (node) {
        bool full = j->bytes >= JOB_EVENTS_BYTES_MAX;
        j->first = node->next;
        if (!j->first)
            j->last = NULL;
        j->bytes -= node->bytes;
        *caught_up = full && j->bytes < JOB_EVENTS_BYTES_MAX ? j->engine : NULL;
    } else {
        uint64_t count;
        ssize_t got = read(j->event_fd, &count, sizeof count);
        (void)got; /* nothing there is fine, too */
    }
    pthread_mutex_unlock(&j->lock);
    return node;
}

/* Wait for an event or the peer's end. False: it has hung up. */
static bool wait_for(const job *j, int socket, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = j->event_fd, .events = POLLIN}, {.fd = socket, .events = POLLRDHUP}};
    int n = poll(fds, socket >= 0 ? 2 : 1, timeout_ms);
    return n < 0 || socket < 0 || !fds[1].revents;
}

job_wait job_next(job *j, int socket, int timeout_ms, job_event *event)
{
    double end = clock_seconds() + timeout_ms * 1e-3;
    free_node(j->taken);
    j->taken = NULL;
    if (!wait_for(j, socket, 0))
        return JOB_HUNG_UP;
    for (;;) {
        engine *caught_up = NULL;
        j->taken = take(j, &caught_up);
        if (caught_up)
            engine_wake(caught_up);
        if (j->taken) {
            *event = j->taken->event;
            return JOB_EVENT;
        }
        double left = end - clock_seconds();
        if (left <= 0)
            return JOB_TIMEOUT;
        if (!wait_for(j, socket, (int)(left * 1e3) + 1))
            return JOB_HUNG_UP;
    }
}
