#include "model/weights.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/mixers/mixer.h"

#define NAME_MAX_LENGTH 160

/* How a folder begins its names: tables say `model.` for what a model has but its output. Models that see or hear as well
 * keep the language model in a part of theirs. */
typedef struct name_place {
    const char *model, *rest; /* for `model.`; before everything else */
} name_place;
static const name_place places[] = {
    {"model.", ""}, {"model.language_model.", ""}, {"language_model.model.", "language_model."}};

typedef struct binder {
    const model_files *files;
    const name_place *place; /* NULL: names are as in the tables */
    const model_config *config;
    const weight_names *names;
    model_weights *out;
    const tensor_info **used; /* every tensor that some rule took */
    size_t used_count, used_capacity;
    int predictions; /* layers behind the model's that predict more tokens */
    uint64_t predictions_seen;
    odmoe_error *err;
} binder;

static int64_t dim_length(const model_config *c, const weight_table *table, int layer, int dim)
{
    switch ((weight_dim)dim) {
    case DIM_VECTOR:
    case DIM_ONE:
        return 1;
    case DIM_HIDDEN:
        return c->hidden;
    case DIM_VOCAB:
        return c->vocab;
    case DIM_HALF_ROPE:
        return c->ropes[0].dim / 2;
    case DIM_EXPERTS:
        return c->router.experts;
    case DIM_EXPERT_HIDDEN:
        return config_expert_hidden(c);
    case DIM_EXPERT_FFN:
        return c->expert_ffn;
    case DIM_EXPERT_FFN_2:
        return 2 * (int64_t)c->expert_ffn;
    case DIM_SHARED_FFN:
        return c->shared_ffn;
    case DIM_DENSE_FFN:
        return c->dense_ffn;
    case DIM_OF_MIXER:
        break;
    }
    return table->mixer->dim(c, layer, dim);
}

static const name_place *place_of(const model_files *files)
{
    static const char *const embeddings[] = {"embed_tokens.weight", "word_embeddings.weight"};
    for (size_t i = 0; !files->gguf && i < sizeof places / sizeof *places; i++)
        for (size_t k = 0; k < sizeof embeddings / sizeof *embeddings; k++) {
            char name[NAME_MAX_LENGTH];
            snprintf(name, sizeof name, "%s%s", places[i].model, embeddings[k]);
            if (tensor_index_find(files->tensors, name) || tensor_index_why_unread(files->tensors, name))
                return &places[i];
        }
    return NULL;
}

/* One of the names in "a|b", with the layer's and the expert's numbers. The patterns come from the families' tables in
 * this program, never from a file. Returns what follows the name in `patterns`. */
static const char *make_name(const binder *b, char out[NAME_MAX_LENGTH], const char *patterns, int layer, int expert)
{
    char pattern[NAME_MAX_LENGTH];
    size_t length = strcspn(patterns, "|"), model = b->place && !strncmp(patterns, "model.", 6) ? 6 : 0;
    const char *begin = !b->place ? "" : model ? b->place->model : b->place->rest;
    snprintf(pattern, sizeof pattern, "%s%.*s", begin, (int)(length - model), patterns + model);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out, NAME_MAX_LENGTH, pattern, layer, expert);
#pragma GCC diagnostic pop
    return patterns + length + (patterns[length] == '|');
}

static const tensor_info *find(binder *b, const char *patterns, int layer, int expert)
{
    const tensor_info *t = NULL;
    while (patterns && *patterns && !t) {
        char name[NAME_MAX_LENGTH];
        patterns = make_name(b, name, patterns, layer, expert);
        t = tensor_index_find(b->files->tensors, name);
    }
    return t;
}

static odmoe_status use(binder *b, const tensor_info *t)
{
    odmoe_status status =
        mem_grow((void **)&b->used, &b->used_capacity, b->used_count + 1, sizeof *b->used, "the tensor table", b->err);
    if (!status)
        b->used[b->used_count++] = t;
    return status;
}

static odmoe_status unread(binder *b, const char *name, const char *type)
{
    return err_set(b->err, ODMOE_ERR_UNSUPPORTED, "%s: tensor %s is of type %s, which is not read%s", b->files->path,
                   name, type, b->files->gguf ? "" : " (F32, F16, BF16, and FP8, FP4 and INT4 with their scales are)");
}

/* Is one of the names there, but of a type that is not read? Leaving it out would change the result. */
static odmoe_status refuse_unread(binder *b, const char *patterns, int layer, int expert)
{
    while (patterns && *patterns) {
        char name[NAME_MAX_LENGTH];
        patterns = make_name(b, name, patterns, layer, expert);
        const char *type = tensor_index_why_unread(b->files->tensors, name);
        if (type)
            return unread(b, name, type);
    }
    return ODMOE_OK;
}

/* patterns: at least one; of one expert where they have an expert's number. */
static odmoe_status missing(binder *b, const char *patterns, int layer)
{
    char name[NAME_MAX_LENGTH];
    make_name(b, name, patterns, layer, 0);
    odmoe_status status = refuse_unread(b, patterns, layer, 0);
    return status ? status : err_set(b->err, ODMOE_ERR_FORMAT, "%s: tensor %s is missing", b->files->path, name);
}

/* rows x cols, where dimensions of 1 don't count: GGUF writes some one-row matrices as vectors, convolutions have one
 * between channels and taps. */
static bool has_shape(const tensor_info *t, int64_t rows, int64_t cols)
{
    const uint64_t want[] = {(uint64_t)rows, (uint64_t)cols};
    int at = 0;
    for (int i = 0; i < t->dims; i++) {
        while (at < 2 && want[at] == 1)
            at++;
        if (t->shape[i] != 1 && (at == 2 || t->shape[i] != want[at++]))
            return false;
    }
    while (at < 2 && want[at] == 1)
        at++;
    return at == 2;
}

/* The rows of all matrices in a rule's tensor. */
static int64_t rows_of_all(const model_config *c, const weight_table *table, const weight_rule *rule, int layer)
{
    int64_t stack = rule->stack ? dim_length(c, table, layer, rule->stack) : 1;
    return stack * dim_length(c, table, layer, rule->rows);
}

/* Several matrices as a third dimension; as one matrix of all rows they pass has_shape. */
static bool has_stack(const tensor_info *t, int64_t rows, int64_t all_rows, int64_t cols)
{
    return t->dims == 3 && t->shape[1] == (uint64_t)rows && t->shape[2] == (uint64_t)cols &&
           t->shape[0] == (uint64_t)(all_rows / rows);
}

static odmoe_status wrong_shape(binder *b, const tensor_info *t, int64_t rows, int64_t cols)
{
    return err_set(b->err, ODMOE_ERR_FORMAT, "%s: tensor %s: its shape isn't %lld x %lld as the configuration says",
                   b->files->path, t->name, (long long)rows, (long long)cols);
}

/* Does the configuration want the rule's tensor? */
static bool wanted(const binder *b, const weight_rule *rule, int layer)
{
    return fields_flag(b->config, rule->only_if, layer) &&
           (!rule->not_if || !fields_flag(b->config, rule->not_if, layer));
}

/* The configuration denies a tensor that the file has: the reference leaves it out, the program would use it. */
static odmoe_status denied(binder *b, const weight_rule *rule, int layer, const tensor_info *t)
{
    config_field against = fields_flag(b->config, rule->only_if, layer) ? rule->not_if : rule->only_if;
    const char *key = fields_hf_key(b->names->fields, against);
    if (b->files->gguf || against == rule->not_if)
        return err_set(b->err, ODMOE_ERR_UNSUPPORTED,
                       "%s: there is a tensor %s, but %s (%s) says that the model has none", b->files->path, t->name,
                       key && !b->files->gguf ? key : "the metadata", fields_what(against));
    return err_set(b->err, ODMOE_ERR_UNSUPPORTED,
                   "%s: there is a tensor %s, but %s in config.json says no: set it if the model was trained with such "
                   "tensors, or remove them",
                   b->files->path, t->name, key ? key : fields_what(against));
}

/* One rule of one layer: where its tensor lies, or its part of a fused one. */
typedef struct bind_site {
    const weight_table *table;
    const weight_rule *rule;
    int layer;
    resident *out;
} bind_site;

static int64_t rows_of(binder *b, const bind_site *s, const weight_rule *rule)
{
    /* a fused vector is cut along its only dimension */
    return dim_length(b->config, s->table, s->layer, rule->rows == DIM_VECTOR ? rule->cols : rule->rows);
}

static const char *fused_name(binder *b, const weight_rule *rule)
{
    return b->files->gguf ? rule->gguf_fused : rule->hf_fused;
}

static weight_form form_of(const binder *b, const weight_rule *rule)
{
    return b->files->gguf ? rule->gguf_form : rule->hf_form;
}

/* rows x cols; in FORM_ROWS, so many numbers. */
static bool fits(const tensor_info *t, weight_form form, int64_t rows, int64_t cols)
{
    uint64_t count = 1; /* cannot overflow: the tensor's bytes are in the file */
    for (int i = 0; i < t->dims; i++)
        count *= t->shape[i];
    return form == FORM_ROWS ? count == (uint64_t)(rows * cols) : has_shape(t, rows, cols);
}

/* What becomes float32 at load, and rows that are looked up: only products know scales that lie apart. */
static odmoe_status check_scales_apart(binder *b, const bind_site *s, const tensor_info *t)
{
    uint8_t share = t->scales && t->scales->grid.rows != SCALE_ALL ? t->scales->grid.rows : 0;
    bool looked_up = !s->table->mixer && s->rule->where == IN_MODEL && s->rule->role == W_EMBED;
    bool plain = s->rule->rows == DIM_VECTOR || s->out->form != FORM_STORED || looked_up;
    if (plain ? t->scales != NULL : t->scales && t->scales->factors > 1)
        return err_set(b->err, ODMOE_ERR_UNSUPPORTED,
                       "%s: tensor %s is of type %s with scales apart; here F32, F16 and BF16 are read", b->files->path,
                       t->name, dtype_info(t->type)->name);
    bool stacked = t->scales && t->dims == 3 && t->shape[1] % ((uint64_t)1 << t->scales->grid.rows);
    if (stacked || s->out->skip_rows % ((int64_t)1 << share))
        return err_set(b->err, ODMOE_ERR_UNSUPPORTED, "%s: tensor %s holds parts whose rows share scales",
                       b->files->path, t->name);
    return ODMOE_OK;
}

static odmoe_status take(binder *b, const bind_site *s, const tensor_info *t, int64_t skip_rows)
{
    int64_t rows = rows_of_all(b->config, s->table, s->rule, s->layer);
    int64_t cols = dim_length(b->config, s->table, s->layer, s->rule->cols);
    s->out->form = form_of(b, s->rule);
    s->out->skip_rows = skip_rows;
    odmoe_status status = check_scales_apart(b, s, t);
    if (status)
        return status;
    s->out->info = t;
    s->out->skip = dtype_bytes(t->type, (uint64_t)(skip_rows * (s->rule->rows == DIM_VECTOR ? 1 : cols)));
    bool floats = s->rule->rows == DIM_VECTOR || s->out->form != FORM_STORED;
    s->out->w = (matrix){.type = floats ? DTYPE_F32 : t->type, .rows = rows, .cols = cols};
    if (t->scales)
        s->out->w.grid = t->scales->grid;
    if (s->out->form == FORM_TAPS)
        s->out->w = (matrix){.type = DTYPE_F32, .rows = cols, .cols = rows};
    b->out->bytes += resident_bytes(s->out);
    return use(b, t);
}

/* The rule's rows of a tensor that holds the rows of several rules, in the order of the table. */
static odmoe_status bind_fused(binder *b, const bind_site *s, const tensor_info *t)
{
    int64_t before = 0, all = 0;
    for (const weight_rule *r = s->table->rules; r->role >= 0; r++) {
        if (!fused_name(b, r) || strcmp(fused_name(b, r), fused_name(b, s->rule)))
            continue;
        before = r == s->rule ? all : before;
        all += rows_of(b, s, r);
    }
    bool vector = s->rule->rows == DIM_VECTOR;
    int64_t cols = vector ? 1 : dim_length(b->config, s->table, s->layer, s->rule->cols);
    if (vector ? !has_shape(t, 1, all) : !has_shape(t, all, cols))
        return wrong_shape(b, t, all, cols);
    if (vector && (uint64_t)before % dtype_info(t->type)->block)
        return err_set(b->err, ODMOE_ERR_UNSUPPORTED, "%s: tensor %s: type %s cannot be cut into its parts",
                       b->files->path, t->name, dtype_info(t->type)->name);
    return take(b, s, t, before);
}

/* Only models whose output is the embedding may lack a matrix for it. */
static odmoe_status no_output(binder *b, const char *patterns)
{
    char name[NAME_MAX_LENGTH];
    make_name(b, name, patterns, 0, 0);
    odmoe_status status = refuse_unread(b, patterns, 0, 0);
    return status ? status
                  : err_set(b->err, ODMOE_ERR_FORMAT,
                            "%s: tensor %s is missing, and the configuration says that it is not the embedding "
                            "(tie_word_embeddings)",
                            b->files->path, name);
}

static odmoe_status bind_one(binder *b, const bind_site *s)
{
    const weight_rule *rule = s->rule;
    const char *names = b->files->gguf ? rule->gguf : rule->hf;
    const tensor_info *t = find(b, names, s->layer, 0), *fused = find(b, fused_name(b, rule), s->layer, 0);
    if ((t || fused) && !wanted(b, rule, s->layer))
        return denied(b, rule, s->layer, t ? t : fused);
    if (t && fused)
        return err_set(b->err, ODMOE_ERR_FORMAT, "%s: tensors %s and %s hold the same weights", b->files->path, t->name,
                       fused->name);
    if (fused)
        return bind_fused(b, s, fused);
    if (!t && !s->table->mixer && rule->where == IN_MODEL && rule->role == W_OUTPUT && !b->config->tied)
        return no_output(b, names);
    if (!t) {
        bool may_lack = rule->optional || !wanted(b, rule, s->layer);
        names = names ? names : fused_name(b, rule);
        return may_lack ? refuse_unread(b, names, s->layer, 0) : missing(b, names, s->layer);
    }
    int64_t rows = dim_length(b->config, s->table, s->layer, rule->rows);
    int64_t cols = dim_length(b->config, s->table, s->layer, rule->cols);
    int64_t all_rows = rows_of_all(b->config, s->table, rule, s->layer);
    if (!fits(t, form_of(b, rule), all_rows, cols) && !has_stack(t, rows, all_rows, cols))
        return wrong_shape(b, t, all_rows, cols);
    return take(b, s, t, 0);
}

static bool applies(const weight_table *table, const weight_rule *rule, const layer_config *layer)
{
    if (table->mixer && table->mixer != layer->mixer)
        return false;
    switch (rule->where) {
    case IN_MODEL:
        return false;
    case IN_ALL_LAYERS:
        return true;
    case IN_MIXER_LAYERS:
        return layer->mixer != NULL;
    case IN_FFN_LAYERS:
        return layer->ffn != FFN_NONE;
    case IN_MOE_LAYERS:
        return layer->ffn == FFN_EXPERTS;
    case IN_DENSE_LAYERS:
        return layer->ffn == FFN_DENSE;
    }
    return false;
}

static odmoe_status bind_resident(binder *b, const weight_table *table, const weight_rule *rule)
{
    if (rule->where == IN_MODEL)
        return bind_one(b, &(bind_site){table, rule, 0, &b->out->model[rule->role]});
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < b->config->layers && !status; l++) {
        layer_weights *w = &b->out->layers[l];
        if (applies(table, rule, &b->config->layer[l]))
            status =
                bind_one(b, &(bind_site){table, rule, l, table->mixer ? &w->mixer[rule->role] : &w->frame[rule->role]});
    }
    return status;
}

/* What a rule finds in one tensor: of one expert, or, -1, of all experts of the layer. */
static odmoe_status take_expert(binder *b, const expert_rule *rule, int layer, int expert, const tensor_info *t)
{
    expert_table *table = &b->out->experts;
    int moe_layer = b->config->layer[layer].moe_index;
    expert_tensor like = {.matrix = (uint8_t)rule->role,
                          .in_out = rule->in_out,
                          .interleaved = rule->interleaved,
                          .rows = dim_length(b->config, NULL, layer, rule->rows),
                          .cols = dim_length(b->config, NULL, layer, rule->cols)};
    odmoe_status status;
    if (rule->part != PART_WEIGHT)
        status = expert_table_add_small(table, moe_layer, expert, rule->role, rule->part, rule->interleaved, like.rows,
                                        t, b->err);
    else if (expert < 0)
        status = expert_table_add_merged(table, moe_layer, &like, t, b->err);
    else
        status = expert_table_add_one(table, moe_layer, expert, &like, t, b->err);
    return status ? status : use(b, t);
}

/* The names of a rule's tensors in this format; NULL: the format does not have them. */
static const char *names_of(const binder *b, const expert_rule *rule)
{
    if (b->files->gguf)
        return rule->gguf ? rule->gguf : rule->gguf_one;
    return rule->hf ? rule->hf : rule->hf_one;
}

static odmoe_status bind_layer_experts(binder *b, const expert_rule *rule, int layer, bool *found)
{
    bool in_gguf = b->files->gguf != NULL;
    const char *merged = in_gguf ? rule->gguf : rule->hf, *one = in_gguf ? rule->gguf_one : rule->hf_one;
    const tensor_info *t = find(b, merged, layer, 0);
    *found = t || find(b, one, layer, 0);
    if (t)
        return take_expert(b, rule, layer, -1, t);
    if (!*found && rule->part != PART_WEIGHT && !rule->optional && names_of(b, rule)) /* weights: check_roles */
        return missing(b, names_of(b, rule), layer);
    odmoe_status status = ODMOE_OK;
    for (int e = 0; *found && e < b->config->router.experts && !status; e++) {
        t = find(b, one, layer, e);
        status = t ? take_expert(b, rule, layer, e, t) : refuse_unread(b, one, layer, e);
        if (!t && !status)
            status =
                err_set(b->err, ODMOE_ERR_FORMAT, "%s: layer %d, expert %d: a tensor like its neighbours' is missing",
                        b->files->path, layer, e);
    }
    return status;
}

/* Bits of the matrices that the format has a name for. */
static unsigned named_roles(const binder *b, const expert_rule *rules)
{
    unsigned named = 0;
    for (; rules->role != EXPERT_MATRIX_COUNT; rules++)
        if (rules->part == PART_WEIGHT && names_of(b, rules))
            named |= 1u << rules->role;
    return named;
}

/* A matrix that was not found because its tensor, in any of its layouts, is of a type that is not read. */
static odmoe_status refuse_unread_experts(binder *b, const expert_rule *rules, int layer, unsigned found)
{
    bool in_gguf = b->files->gguf != NULL;
    odmoe_status status = ODMOE_OK;
    for (; rules->role != EXPERT_MATRIX_COUNT && !status; rules++) {
        if (rules->part != PART_WEIGHT || found & 1u << rules->role)
            continue;
        status = refuse_unread(b, in_gguf ? rules->gguf : rules->hf, layer, 0);
        if (!status)
            status = refuse_unread(b, in_gguf ? rules->gguf_one : rules->hf_one, layer, 0);
    }
    return status;
}

/* gate and up, or both in one, and down; no gate where the activation has none. found: bits of the matrices that the
 * layer has. */
static odmoe_status check_roles(binder *b, const expert_rule *rules, int layer, unsigned found)
{
    const unsigned apart = 1u << ODMOE_GATE | 1u << ODMOE_UP, fused = 1u << ODMOE_GATE_UP;
    if (found & fused && found & apart)
        return err_set(b->err, ODMOE_ERR_FORMAT, "%s: layer %d has its experts' gate and up both fused and apart",
                       b->files->path, layer);
    bool one = found & fused || (!(found & apart) && !(named_roles(b, rules) & 1u << ODMOE_GATE));
    unsigned wanted = (one ? fused : apart) | 1u << ODMOE_DOWN;
    if (!glu_has_gate(&b->config->glu))
        wanted = 1u << ODMOE_UP | 1u << ODMOE_DOWN;
    odmoe_status status = refuse_unread_experts(b, rules, layer, found);
    for (const expert_rule *rule = rules; rule->role != EXPERT_MATRIX_COUNT && !status; rule++)
        if (rule->part == PART_WEIGHT && names_of(b, rule) && wanted & ~found & 1u << rule->role)
            return missing(b, names_of(b, rule), layer);
    return status;
}

static odmoe_status bind_experts(binder *b, const expert_rule *rules)
{
    odmoe_status status = ODMOE_OK;
    for (int l = 0; l < b->config->layers && !status; l++) {
        unsigned matrices = 0;
        if (b->config->layer[l].moe_index < 0)
            continue;
        for (const expert_rule *rule = rules; rule->role != EXPERT_MATRIX_COUNT && !status; rule++) {
            bool found;
            status = bind_layer_experts(b, rule, l, &found);
            matrices |= (unsigned)(found && rule->part == PART_WEIGHT) << rule->role;
        }
        if (!status)
            status = check_roles(b, rules, l, matrices);
    }
    return status;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const tensor_info *const *)a, y = (uintptr_t) * (const tensor_info *const *)b;
    return (x > y) - (x < y);
}

/* How many layers behind the model's are prediction layers: as the configuration says, or as many as have the matrix that
 * joins a token with the state that predicts it. */
static int prediction_layers(binder *b)
{
    const char *joins = b->files->gguf ? "blk.%d.nextn.eh_proj.weight" : "model.layers.%d.eh_proj.weight";
    int n = 0;
    while (n < MODEL_LAYERS_MAX && find(b, joins, b->config->layers + n, 0))
        n++;
    return n > b->config->nextn ? n : b->config->nextn;
}

/* The number behind `before` in a name; 0: there is none. */
static long number_behind(const char *name, const char *before)
{
    const char *at = strstr(name, before);
    return at ? strtol(at + strlen(before), NULL, 10) : 0;
}

/* Which prediction layer (multi-token prediction), from 0, a tensor belongs to; -1: none. They lie behind the layers of the
 * language model, or have names of their own, and the language model runs without them. */
static int prediction_of(const binder *b, const char *name)
{
    if (!strncmp(name, "mtp.", 4))
        return (int)number_behind(name, ".layers.");
    if (!strncmp(name, "model.mtp_", 10))
        return (int)number_behind(name, "mtp_block.");
    const char *number = strncmp(name, "blk.", 4) ? strstr(name, ".layers.") : name;
    long layer = number ? strtol(number + (number == name ? 4 : 8), NULL, 10) - b->config->layers : -1;
    return layer >= 0 && layer < b->predictions ? (int)layer : -1;
}

#define PREDICTIONS_TOLD_APART 64

static void note_prediction(binder *b, const tensor_info *t)
{
    int layer = prediction_of(b, t->name);
    uint64_t bit = 1ull << (layer < PREDICTIONS_TOLD_APART ? layer : PREDICTIONS_TOLD_APART - 1);
    b->out->prediction_layers += !(b->predictions_seen & bit);
    b->predictions_seen |= bit;
    b->out->prediction_bytes += t->length + (t->scales ? t->scales->length : 0);
}

/* Tensors that are no part of the computation: prediction layers, what the family says (parts that see or hear), and what
 * follows from other numbers: position tables that some exporters store, scales of an FP8 cache of keys and values. */
typedef enum left_out { LEFT_OUT_NOT, LEFT_OUT_PREDICTION, LEFT_OUT_PART, LEFT_OUT_DERIVED } left_out;

static left_out why_left_out(const binder *b, const char *name)
{
    static const char *const derived[] = {"*rotary_emb.inv_freq", "*.k_proj.k_scale", "*.v_proj.v_scale"};
    if (prediction_of(b, name) >= 0)
        return LEFT_OUT_PREDICTION;
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++)
        if (!fnmatch(derived[i], name, FNM_NOESCAPE))
            return LEFT_OUT_DERIVED;
    for (const char *const *p = b->names->ignored; p && *p; p++)
        if (!fnmatch(*p, name, FNM_NOESCAPE))
            return LEFT_OUT_PART;
    return LEFT_OUT_NOT;
}

static odmoe_status refuse_unknown(binder *b)
{
    if (b->used_count)
        qsort(b->used, b->used_count, sizeof *b->used, by_address);
    for (size_t i = 0; i < tensor_index_count(b->files->tensors); i++) {
        const tensor_info *t = tensor_index_at(b->files->tensors, i);
        if (bsearch(&t, b->used, b->used_count, sizeof *b->used, by_address))
            continue;
        left_out why = why_left_out(b, t->name);
        if (why == LEFT_OUT_NOT)
            return err_set(b->err, ODMOE_ERR_UNSUPPORTED,
                           "%s: unknown tensor %s for family %s: leaving it out could change the result",
                           b->files->path, t->name, b->config->family);
        if (why == LEFT_OUT_PREDICTION)
            note_prediction(b, t);
        if (why == LEFT_OUT_PART)
            b->out->part_bytes += t->length;
    }
    return ODMOE_OK;
}

/* Tensors that cannot be read, whatever they are for: those that rules ask for have been refused by name before. */
static odmoe_status refuse_unread_unknown(binder *b)
{
    const char *name, *type;
    for (size_t i = 0; tensor_index_unread(b->files->tensors, i, &name, &type); i++)
        if (why_left_out(b, name) == LEFT_OUT_NOT)
            return unread(b, name, type);
    return ODMOE_OK;
}

odmoe_status weights_bind(const model_files *files, const model_config *config, const weight_names *names,
                          model_weights *out, odmoe_error *err)
{
    *out = (model_weights){.layer_count = config->layers};
    binder b = {.files = files, .place = place_of(files), .config = config, .names = names, .out = out, .err = err};
    b.predictions = prediction_layers(&b);
    odmoe_status status = ODMOE_ERR_MEMORY;
    out->layers = mem_calloc((size_t)config->layers, sizeof *out->layers, "the weight table", err);
    if (!out->layers)
        goto done;
    status = expert_table_create(&out->experts, config->moe_layers, config->router.experts, err);
    for (const weight_table *table = names->tables; table->rules && !status; table++)
        for (const weight_rule *rule = table->rules; rule->role >= 0 && !status; rule++)
            status = bind_resident(&b, table, rule);
    if (!status)
        status = bind_experts(&b, names->experts);
    if (!status)
        status = refuse_unread_unknown(&b);
    if (!status)
        status = refuse_unknown(&b);
done:
    free(b.used);
    if (status)
        weights_free(out);
    return status;
}
