#include "template_options.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "measure.h"

enum { KEY_FILE = KEY_TEMPLATE, KEY_KEYWORDS };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    template_options *o = state->input;
    json_error_t fault;
    json_t *value;
    bool object;
    switch (key) {
    case KEY_FILE:
        o->file = arg;
        return 0;
    case KEY_KEYWORDS:
        value = json_loads(arg, JSON_REJECT_DUPLICATES, &fault);
        object = json_is_object(value);
        json_decref(value);
        if (!object)
            usage_error("--template-kwargs %s: must be a JSON object, like {\"enable_thinking\": false}", arg);
        o->keywords = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp template_argp = {
    .options =
        (const struct argp_option[]){
            {"template", KEY_FILE, "FILE", 0, "a chat template (Jinja), instead of the model's own", 0},
            {"template-kwargs", KEY_KEYWORDS, "JSON", 0,
             "variables for the template: an object, like {\"enable_thinking\": false}", 0},
            {0}},
    .parser = parse,
};

odmoe_template *template_load(const char *file)
{
    odmoe_template *t = NULL;
    odmoe_error err;
    size_t length;
    char *source = read_whole(file, &length);
    if (source && odmoe_template_compile(source, length, &t, NULL, &err)) {
        complain("%s: %s", file, err.message);
        t = NULL;
    }
    free(source);
    return t;
}

#define SHARE_LEAST (UINT64_C(1) << 20)
#define SHARE_MOST (UINT64_C(64) << 20)

uint64_t chat_share(uint64_t ram_bytes)
{
    uint64_t share = ram_bytes ? ram_bytes / 16 : SHARE_MOST;
    return share < SHARE_LEAST ? SHARE_LEAST : share > SHARE_MOST ? SHARE_MOST : share;
}

/* Half is the template's; in the rest a text stands as it came, as a message, in the list of them, and as ids. */
size_t chat_text_most(uint64_t share)
{
    return (size_t)(share / 16);
}

bool chat_template_of(const template_options *o, const odmoe_model *model, uint64_t share, chat_template *out)
{
    odmoe_error err;
    *out = (chat_template){.keywords = o->keywords, .memory_bytes = share / 2, .text_most = chat_text_most(share)};
    if (o->file)
        out->t = out->own = template_load(o->file);
    else if (!(out->t = odmoe_model_template(model, &err)))
        fail(&err);
    return out->t != NULL;
}

void chat_template_free(chat_template *c)
{
    odmoe_template_close(c->own);
    free(c->tools);
    free(c->own_keywords);
    *c = (chat_template){0};
}

int64_t chat_now(void)
{
    time_t now = time(NULL);
    struct tm here;
    return (int64_t)now + (localtime_r(&now, &here) ? here.tm_gmtoff : 0);
}

void add_message(json_t *messages, const char *role, const char *content)
{
    json_t *message = json_object();
    json_object_set_new(message, "role", json_string(role));
    json_object_set_new(message, "content", json_text(content, strlen(content)));
    json_array_append_new(messages, message);
}

bool chat_ids(const chat_template *c, const odmoe_tokenizer *tokenizer, const json_t *messages, id_list *ids)
{
    odmoe_error err;
    odmoe_chat chat;
    odmoe_status status;
    size_t n = 256;
    char *text = json_dumps(messages, JSON_COMPACT);
    if (!text) {
        complain("no memory for the conversation");
        return false;
    }
    if (strlen(text) > 2 * c->text_most) { /* twice: quotes, line ends and names of members */
        complain("the conversation has %zu bytes: more than its share of the memory budget; a larger --ram has room",
                 strlen(text));
        free(text);
        return false;
    }
    odmoe_chat_init(&chat);
    chat.messages = text;
    chat.keywords = c->keywords;
    chat.tools = c->tools;
    chat.now = chat_now();
    chat.memory_bytes = c->memory_bytes;
    *ids = (id_list){0};
    do {
        ids->capacity = n;
        ids->ids = must_realloc(ids->ids, n, sizeof *ids->ids);
        status = odmoe_chat_tokenize(c->t, tokenizer, &chat, ids->ids, ids->capacity, &n, &err);
    } while (!status && n > ids->capacity);
    free(text);
    ids->n = n;
    if (status) {
        free(ids->ids);
        *ids = (id_list){0};
        fail(&err);
    }
    return !status;
}
