#include <stdio.h>
#include <string.h>

#include "measure.h"
#include "options.h"

enum { KEY_REPLAY_RAM = KEY_COMMAND, KEY_REPLAY_POLICY, KEY_REPLAY_SEQUENCES, KEY_REPLAY_JSON };

#define POLICIES_MAX 32
#define SEQUENCES_MAX 1024 /* that a replay takes */

typedef struct replay_options {
    const char *trace;
    uint64_t ram;
    const char *policies[POLICIES_MAX + 1]; /* those asked for; none: all */
    int count;
    int32_t sequences;
    bool json;
} replay_options;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    replay_options *o = state->input;
    switch (key) {
    case KEY_REPLAY_RAM:
        o->ram = parse_ram(arg, "give room for experts");
        return 0;
    case KEY_REPLAY_POLICY:
        for (char *name = strtok(arg, ","); name; name = strtok(NULL, ",")) {
            if (o->count == POLICIES_MAX)
                usage_error("--policy: more than %d names", POLICIES_MAX);
            o->policies[o->count++] = name;
        }
        return 0;
    case KEY_REPLAY_SEQUENCES:
        o->sequences = (int32_t)parse_integer("--sequences", arg, 1, SEQUENCES_MAX);
        return 0;
    case KEY_REPLAY_JSON:
        o->json = true;
        return 0;
    case ARGP_KEY_ARG: /* names may follow --policy without commas */
        if (!o->trace)
            o->trace = arg;
        else if (o->count > 0 && o->count < POLICIES_MAX)
            o->policies[o->count++] = arg;
        else
            usage_error("one TRACE is needed; '%s' is too many", arg);
        return 0;
    case ARGP_KEY_END:
        if (!o->trace || !o->ram)
            usage_error("replay needs a TRACE and --ram SIZE; see odmoe replay --help");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp replay_argp = {
    .options =
        (const struct argp_option[]){
            {"ram", KEY_REPLAY_RAM, "SIZE", 0, "room for experts", 0},
            {"policy", KEY_REPLAY_POLICY, "NAME[,NAME...]", 0,
             "only these; default: all. belady, the optimum, always comes last", 0},
            {"sequences", KEY_REPLAY_SEQUENCES, "N", 0, "N copies of the trace decode together; default: 1", 0},
            {"json", KEY_REPLAY_JSON, NULL, 0, "one JSON object on standard output, a member for each policy", 0},
            {0}},
    .parser = parse,
    .args_doc = "TRACE",
    .doc = "Send a routing trace through the expert cache, without a model: what each policy would have hit.\v"
           "Example: odmoe replay tests/data/traces/olmoe_1b7b_299tok.jsonl --ram 150MiB",
    .children = (const struct argp_child[]){{&help_argp, 0, NULL, 0}, {0}},
};

static void print_result(const odmoe_replay_result *r)
{
    char bytes[ODMOE_SIZE_TEXT_MAX];
    printf("%-12s  hits %5.1f%%, in decoding %5.1f%%; read %s\n", r->policy, r->hit_pct_cum, r->hit_pct_decode,
           odmoe_size_format(r->bytes_read, bytes));
}

/* The optimum is what the others are compared with: once, and at the end, also when it was asked for. */
static void belady_last(replay_options *o)
{
    int others = 0;
    for (int i = 0; i < o->count; i++)
        if (strcmp(o->policies[i], "belady"))
            o->policies[others++] = o->policies[i];
    o->count = others;
    o->policies[o->count] = "belady";
}

int command_replay(int argc, char **argv)
{
    replay_options o = {.sequences = 1};
    parse_options(&replay_argp, argc, argv, &o);
    if (!o.count)
        while (o.count < POLICIES_MAX && odmoe_policy_at(o.count)) {
            o.policies[o.count] = odmoe_policy_at(o.count);
            o.count++;
        }
    belady_last(&o);
    json_t *object = json_object();
    odmoe_error err;
    int status = STATUS_DONE;
    for (int i = 0; i <= o.count && status == STATUS_DONE; i++) {
        odmoe_replay_result r = {.size = sizeof r};
        odmoe_replay_options run;
        odmoe_replay_options_init(&run);
        run.cache_bytes = o.ram;
        run.policy = o.policies[i];
        run.sequences = o.sequences;
        if (odmoe_replay(o.trace, &run, &r, &err))
            status = fail(&err);
        else if (o.json)
            json_object_set_new(object, r.policy,
                                json_pack("{s:f,s:f,s:I}", "hit_pct_cum", r.hit_pct_cum, "hit_pct_decode",
                                          r.hit_pct_decode, "bytes_read", (json_int_t)r.bytes_read));
        else
            print_result(&r);
    }
    if (status == STATUS_DONE && o.json)
        json_print(object, stdout); /* takes the reference */
    else
        json_decref(object);
    return status;
}
