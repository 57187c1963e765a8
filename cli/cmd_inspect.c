#include <stdio.h>

#include "measure.h"
#include "options.h"

enum { KEY_INSPECT_JSON = KEY_COMMAND, KEY_INSPECT_NUMBERS };

typedef struct inspect_options {
    const char *path;
    bool json, numbers;
} inspect_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    inspect_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->path;
        return 0;
    case KEY_INSPECT_JSON:
        o->json = true;
        return 0;
    case KEY_INSPECT_NUMBERS:
        o->numbers = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp inspect_argp = {
    .options =
        (const struct argp_option[]){
            {"json", KEY_INSPECT_JSON, NULL, 0, "one JSON object on standard output", 0},
            {"numbers", KEY_INSPECT_NUMBERS, NULL, 0, "every number of the configuration, one a line", 0},
            {0}},
    .parser = parse,
    .args_doc = "MODEL",
    .doc = "Show what a model file holds; reads its headers only.\vExample: odmoe inspect models/demo.gguf",
    .children = (const struct argp_child[]){{&path_argp, 0, NULL, 0}, {0}},
};

/* What is in the files and takes no part. */
static void print_left_out(const odmoe_info *i)
{
    char size[ODMOE_SIZE_TEXT_MAX];
    if (i->prediction_layers)
        printf("not used       %d layer%s for the prediction of more tokens, %s\n", i->prediction_layers,
               i->prediction_layers > 1 ? "s" : "", odmoe_size_format(i->prediction_bytes, size));
    if (i->other_parts_bytes)
        printf("not used       parts that see or hear, %s\n", odmoe_size_format(i->other_parts_bytes, size));
}

static void print_info(const odmoe_info *i)
{
    char low[ODMOE_SIZE_TEXT_MAX], high[ODMOE_SIZE_TEXT_MAX], resident[ODMOE_SIZE_TEXT_MAX], all[ODMOE_SIZE_TEXT_MAX];
    printf("family         %s (%s)\n", i->family, i->format);
    printf("layers         %d, %d of them with experts\n", i->layers, i->moe_layers);
    printf("experts        %d a layer, %d for each token", i->experts, i->top_k);
    if (i->shared_experts > 0)
        printf(", %d shared", i->shared_experts);
    printf("; %s\n", i->expert_types);
    printf("sizes          hidden %d, expert %d, vocabulary %d, context %d\n", i->hidden, i->expert_ffn, i->vocab,
           i->context);
    printf("one expert     %s", odmoe_size_format(i->expert_bytes_min, low));
    if (i->expert_bytes_max != i->expert_bytes_min)
        printf(" to %s", odmoe_size_format(i->expert_bytes_max, high));
    printf("\nall experts    %s, read from the disk on demand\n", odmoe_size_format(i->experts_bytes, all));
    printf("the rest       %s, always in memory", odmoe_size_format(i->resident_bytes, resident));
    if (i->embedding_bytes)
        printf("; but %s of it, the token embedding, may stay on the disk", odmoe_size_format(i->embedding_bytes, all));
    printf("\n");
    print_left_out(i);
}

static json_t *info_json(const odmoe_info *i)
{
    return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:i,s:I,s:I}", "format",
                     i->format, "family", i->family, "expert_types", i->expert_types, "layers", i->layers, "moe_layers",
                     i->moe_layers, "experts", i->experts, "top_k", i->top_k, "shared_experts", i->shared_experts,
                     "hidden", i->hidden, "expert_ffn", i->expert_ffn, "vocab", i->vocab, "context", i->context,
                     "expert_bytes_min", (json_int_t)i->expert_bytes_min, "expert_bytes_max",
                     (json_int_t)i->expert_bytes_max, "resident_bytes", (json_int_t)i->resident_bytes, "experts_bytes",
                     (json_int_t)i->experts_bytes, "embedding_bytes", (json_int_t)i->embedding_bytes,
                     "prediction_layers", i->prediction_layers, "prediction_bytes", (json_int_t)i->prediction_bytes,
                     "other_parts_bytes", (json_int_t)i->other_parts_bytes);
}

/* A number that layers have for themselves is shown where it differs from the layer before. */
typedef struct shown {
    const char *name;
    double value;
} shown;

static void print_number(void *user, const char *name, int32_t layer, double value)
{
    shown *last = user;
    bool again = layer > 0 && last->name == name && last->value == value;
    *last = (shown){name, value};
    if (again)
        return;
    if (layer > 0)
        printf("%s, from layer %d on: %.9g\n", name, layer, value);
    else
        printf("%s: %.9g\n", name, value);
}

int command_inspect(int argc, char **argv)
{
    inspect_options o = {0};
    parse_options(&inspect_argp, argc, argv, &o);
    odmoe_info info = {.size = sizeof info};
    odmoe_error err;
    shown last = {0};
    if (o.numbers)
        return odmoe_inspect_numbers(o.path, print_number, &last, &err) ? fail(&err) : STATUS_DONE;
    if (odmoe_inspect(o.path, &info, &err))
        return fail(&err);
    if (o.json)
        json_print(info_json(&info), stdout);
    else
        print_info(&info);
    return STATUS_DONE;
}
