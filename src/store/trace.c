#include "store/trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LINE_MAX_BYTES (1u << 20)
#define LAYERS_MAX 4096
#define EXPERTS_MAX 65536
#define IDS_MAX (1 << 20) /* layers x experts: each costs the replay memory */
#define EXPERT_BYTES_MAX (1ull << 40)
#define TOKENS_MAX (1 << 20)

/* A line of the trace in numbers: one token's use of one expert. */
typedef struct use {
    int32_t turn, phase, step, layer, slot, expert;
} use;

typedef struct reader {
    const char *path;
    long line;
    use *use;
    size_t uses, room;
    int32_t layers, experts;
    uint64_t bytes_of[LAYERS_MAX];
} reader;

static odmoe_status bad_line(const reader *r, const char *what, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_FORMAT, "%s: line %ld: %s", r->path, r->line, what);
}

static odmoe_status add_use(reader *r, use u, odmoe_error *err)
{
    if (u.layer < 0 || u.layer >= LAYERS_MAX || u.expert < 0 || u.expert >= EXPERTS_MAX || u.step < 0 || u.turn < 0 ||
        u.slot < 0)
        return bad_line(r, "a layer, expert or token is out of range", err);
    odmoe_status status = mem_grow((void **)&r->use, &r->room, r->uses + 1, sizeof *r->use, "the trace", err);
    if (status)
        return status;
    r->use[r->uses++] = u;
    r->layers = u.layer >= r->layers ? u.layer + 1 : r->layers;
    r->experts = u.expert >= r->experts ? u.expert + 1 : r->experts;
    return ODMOE_OK;
}

/* ---- comma-separated ---- */

static odmoe_status csv_preamble(reader *r, const char *line, odmoe_error *err)
{
    long layer, experts;
    unsigned long long bytes;
    const char *at = strstr(line, "n_expert=");
    if (at && sscanf(at, "n_expert=%ld", &experts) == 1) {
        if (experts < 1 || experts > EXPERTS_MAX)
            return bad_line(r, "n_expert is out of range", err);
        r->experts = (int32_t)experts > r->experts ? (int32_t)experts : r->experts;
    }
    if (sscanf(line, "# layer=%ld expert_bytes=%llu", &layer, &bytes) == 2) {
        if (layer < 0 || layer >= LAYERS_MAX || bytes > EXPERT_BYTES_MAX)
            return bad_line(r, "a layer or size is out of range", err);
        r->bytes_of[layer] = bytes;
    }
    return ODMOE_OK;
}

static odmoe_status csv_line(reader *r, const char *line, odmoe_error *err)
{
    if (*line == '#')
        return csv_preamble(r, line, err);
    if (!strncmp(line, "turn,", 5) || !*line)
        return ODMOE_OK;
    long field[6];
    const char *at = line;
    for (int i = 0; i < 6; i++) {
        char *end;
        errno = 0;
        field[i] = strtol(at, &end, 10);
        if (end == at || *end != ',' || errno || field[i] < 0 || field[i] > INT32_MAX)
            return bad_line(r, "six numbers expected: turn, phase, step, layer, slot, expert", err);
        at = end + 1;
    }
    return add_use(r,
                   (use){(int32_t)field[0], field[1] != 0, (int32_t)field[2], (int32_t)field[3], (int32_t)field[4],
                         (int32_t)field[5]},
                   err);
}

/* ---- JSON ---- */

static odmoe_status json_line(reader *r, const char *line, int32_t token, odmoe_error *err)
{
    json_error_t where;
    json_t *object = json_loads(line, 0, &where), *layers = json_object_get(object, "layers");
    odmoe_status status = ODMOE_OK;
    if (!json_is_array(layers))
        status = bad_line(r, object ? "no array \"layers\"" : where.text, err);
    for (size_t l = 0; !status && l < json_array_size(layers); l++) {
        const json_t *experts = json_array_get(layers, l);
        if (!json_is_array(experts) || l >= LAYERS_MAX)
            status = bad_line(r, "\"layers\" is to be an array of arrays", err);
        for (size_t i = 0; !status && i < json_array_size(experts); i++) {
            const json_t *e = json_array_get(experts, i);
            json_int_t id = json_is_integer(e) ? json_integer_value(e) : -1;
            status = id < 0 || id >= EXPERTS_MAX || i >= EXPERTS_MAX
                         ? bad_line(r, "an expert is out of range", err)
                         : add_use(r, (use){0, 1, token, (int32_t)l, (int32_t)i, (int32_t)id}, err);
        }
    }
    json_decref(object);
    return status;
}

static odmoe_status read_lines(reader *r, FILE *f, odmoe_error *err)
{
    char *line = mem_calloc(LINE_MAX_BYTES, 1, "a line of the trace", err);
    if (!line)
        return ODMOE_ERR_MEMORY;
    odmoe_status status = ODMOE_OK;
    bool json = false;
    int32_t tokens = 0;
    while (!status && fgets(line, LINE_MAX_BYTES, f)) {
        r->line++;
        size_t length = strlen(line);
        if (length == LINE_MAX_BYTES - 1 && line[length - 1] != '\n')
            status = bad_line(r, "longer than 1 MiB", err);
        else if (tokens >= TOKENS_MAX)
            status = bad_line(r, "too many tokens", err);
        else if (line[strspn(line, " \t\r\n")] == 0)
            continue;
        else if ((json |= *line == '{'))
            status = json_line(r, line, tokens++, err);
        else
            status = csv_line(r, line, err);
    }
    if (!status && ferror(f))
        status = err_set(err, ODMOE_ERR_IO, "%s: %s", r->path, strerror(errno));
    free(line);
    return status;
}

/* ---- uses -> fetches ---- */

/* In the order in which a model would run: turns, in them the prompt and then its tokens, in a pass layer by layer. All
 * tokens of a prompt belong to the same pass. */
static int in_order(const void *a, const void *b)
{
    const use *x = a, *y = b;
    int32_t key[6][2] = {{x->turn, y->turn},   {x->phase, y->phase}, {x->phase ? x->step : 0, y->phase ? y->step : 0},
                         {x->layer, y->layer}, {x->step, y->step},   {x->slot, y->slot}};
    for (int i = 0; i < 6; i++)
        if (key[i][0] != key[i][1])
            return key[i][0] < key[i][1] ? -1 : 1;
    return 0;
}

static bool same_fetch(const use *a, const use *b)
{
    return a->turn == b->turn && a->phase == b->phase && a->layer == b->layer && (!a->phase || a->step == b->step);
}

static odmoe_status make_fetches(const reader *r, trace *t, odmoe_error *err)
{
    int32_t *place = mem_calloc((size_t)r->experts, sizeof *place, "the trace", err);
    t->expert = mem_calloc(r->uses, sizeof *t->expert, "the trace", err);
    t->tokens = mem_calloc(r->uses, sizeof *t->tokens, "the trace", err);
    t->expert_bytes = mem_calloc((size_t)r->layers, sizeof *t->expert_bytes, "the trace", err);
    size_t room = 0;
    odmoe_status status = place && t->expert && t->tokens && t->expert_bytes ? ODMOE_OK : ODMOE_ERR_MEMORY;
    for (int32_t l = 0; !status && l < r->layers; l++)
        t->expert_bytes[l] = r->bytes_of[l] ? r->bytes_of[l] : TRACE_EXPERT_BYTES;
    for (size_t i = 0; !status && i < r->uses; i++) {
        const use *u = &r->use[i];
        bool begins = !i || !same_fetch(u, u - 1);
        if (begins) {
            if ((status = mem_grow((void **)&t->fetch, &room, t->fetches + 1, sizeof *t->fetch, "the trace", err)))
                break;
            fetch_size size = {u->phase ? FETCH_DECODE : FETCH_PROMPT, 0, 1};
            t->fetch[t->fetches++] = (trace_fetch){u->layer, size, (int32_t)t->uses, 0};
        }
        trace_fetch *b = &t->fetch[t->fetches - 1];
        b->size.n_tokens += begins || u->step != u[-1].step;
        int32_t at = place[u->expert]; /* where it was put last: in this fetch, or a stale place */
        if (at < b->first || at >= b->first + b->n || t->expert[at] != u->expert) {
            at = place[u->expert] = (int32_t)t->uses++;
            t->expert[at] = u->expert;
            b->n++;
        }
        t->tokens[at]++;
    }
    t->layers = r->layers;
    t->experts = r->experts;
    free(place);
    return status;
}

odmoe_status trace_read(const char *path, trace *out, odmoe_error *err)
{
    *out = (trace){0};
    reader *r = mem_calloc(1, sizeof *r, "the trace", err);
    if (!r)
        return ODMOE_ERR_MEMORY;
    r->path = path;
    FILE *f = fopen(path, "re");
    odmoe_status status = f ? read_lines(r, f, err) : err_set(err, ODMOE_ERR_IO, "%s: %s", path, strerror(errno));
    if (!status && (!r->uses || r->uses > INT32_MAX))
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: %s", path,
                         r->uses ? "it has more than 2147483647 uses of experts" : "it has no routing");
    if (!status && (int64_t)r->layers * r->experts > IDS_MAX)
        status = err_set(err, ODMOE_ERR_FORMAT, "%s: %d layers of %d experts are more than a model has", path,
                         r->layers, r->experts);
    if (!status) {
        qsort(r->use, r->uses, sizeof *r->use, in_order);
        status = make_fetches(r, out, err);
    }
    if (f)
        fclose(f);
    free(r->use);
    free(r);
    if (status)
        trace_clear(out);
    return status;
}

void trace_clear(trace *t)
{
    free(t->expert_bytes);
    free(t->fetch);
    free(t->expert);
    free(t->tokens);
    *t = (trace){0};
}
