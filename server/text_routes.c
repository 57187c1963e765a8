/* Texts and tokens without an answer: tokenize, detokenize, apply-template. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "serve.h"

/* The messages of a request, with their tools and keywords. */
static bool read_messages(const struct server *s, ask *a, const json_t *body, problem *p)
{
    ask_init(s, a);
    return ask_read_common(s, a, body, p) && ask_read_tools(a, body, p) &&
           conversation_read(a, json_object_get(body, "messages"), "messages", p);
}

static json_t *pieces_json(const struct server *s, const int32_t *tokens, size_t n)
{
    char bytes[512];
    json_t *list = json_array(), *piece;
    for (size_t i = 0; i < n; i++) {
        size_t length = token_bytes(s, tokens[i], bytes, sizeof bytes);
        piece = json_stringn(bytes, length);
        if (!piece) { /* a part of a character */
            piece = json_array();
            for (size_t k = 0; k < length; k++)
                json_array_append_new(piece, json_integer((unsigned char)bytes[k]));
        }
        json_array_append_new(list, json_pack("{s:i, s:o}", "id", tokens[i], "piece", piece));
    }
    return list;
}

static json_t *ids_json(const int32_t *tokens, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(list, json_integer(tokens[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static void reply_tokens(const struct server *s, http_reply *reply, const int32_t *tokens, size_t n, bool pieces)
{
    json_t *list = pieces ? pieces_json(s, tokens, n) : ids_json(tokens, n);
    reply_json(reply, 200,
               json_pack("{s:o, s:I, s:i}", "tokens", list, "count", (json_int_t)n, "max_model_len", s->context));
}

static bool tokenize_text(const struct server *s, const json_t *text, bool start, bool special, bool pieces,
                          http_reply *reply, problem *p)
{
    int32_t *tokens;
    size_t n;
    uint64_t taken;
    int flags = (start ? ODMOE_TOKENIZE_START : 0) | (special ? ODMOE_TOKENIZE_SPECIAL : 0);
    if (!text_tokens(s, json_string_value(text), json_string_length(text), flags, &tokens, &n, &taken, p))
        return false;
    reply_tokens(s, reply, tokens, n, pieces);
    free(tokens);
    memory_give(taken);
    return true;
}

static bool tokenize(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    const json_t *body = request->json;
    const char *text = NULL, *key = field_get(body, "content") ? "content" : "prompt";
    bool start = false, special = true, pieces = false;
    if (!field_text(body, "", key, &text, p) || !field_bool(body, "", "add_special", &start, p) ||
        !field_bool(body, "", "parse_special", &special, p) || !field_bool(body, "", "with_pieces", &pieces, p))
        return false;
    if (text)
        return tokenize_text(s, json_object_get(body, key), start, special, pieces, reply, p);
    if (!field_get(body, "messages"))
        return problem_set(p, 400, "missing_required_parameter", "content", "content: a text or messages are wanted");
    ask a;
    prompt r = {0};
    bool done = read_messages(s, &a, body, p) && conversation_tokens(s, &a, &r, p);
    if (done)
        reply_tokens(s, reply, r.tokens, (size_t)r.n, pieces);
    prompt_free(&r);
    ask_free(&a);
    return done;
}

static bool detokenize(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    json_t *list = field_get(request->json, "tokens"), *one;
    size_t i, length = 0;
    buffer text = {0};
    odmoe_error err;
    if (!list)
        return problem_set(p, 400, "missing_required_parameter", "tokens", "tokens: a list of ids is wanted");
    if (!json_is_array(list))
        return problem_value(p, "", "tokens", "a list of ids is wanted");
    if (!s->tokenizer)
        return problem_set(p, 400, "unsupported_parameter", NULL, "this model has no tokenizer that can be used");
    size_t n = json_array_size(list);
    uint64_t taken = (n + 1) * sizeof(int32_t);
    int32_t *ids = memory_take(taken) ? malloc(taken) : NULL;
    if (!ids)
        return problem_memory(p);
    bool done = true;
    json_array_foreach(list, i, one)
    {
        int64_t id = -1;
        if (!field_whole(one, &id) || id < 0 || id >= odmoe_vocab_size(s->tokenizer)) {
            done = problem_value(p, field_index("tokens", i).text, NULL, "an id from 0 to %d is wanted",
                                 odmoe_vocab_size(s->tokenizer) - 1);
            break;
        }
        ids[i] = (int32_t)id;
    }
    if (done && (odmoe_detokenize(s->tokenizer, ids, n, NULL, 0, &length, &err) || !buffer_reserve(&text, length) ||
                 odmoe_detokenize(s->tokenizer, ids, n, text.data, length, &length, &err)))
        done = problem_memory(p);
    if (done) {
        json_t *value = json_bytes_text(text.data, length);
        reply_json(reply, 200, json_pack("{s:O, s:o}", "content", value, "prompt", value));
    }
    buffer_free(&text);
    free(ids);
    memory_give(taken);
    return done;
}

static bool apply_template(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    ask a;
    buffer text = {0};
    bool goes_on = true;
    bool done = read_messages(s, &a, request->json, p) &&
                field_bool(request->json, "", "add_generation_prompt", &goes_on, p) &&
                conversation_text(s, &a, goes_on, &text, p);
    if (done)
        reply_json(reply, 200, json_pack("{s:o}", "prompt", json_bytes_text(text.data, text.length)));
    buffer_free(&text);
    ask_free(&a);
    return done;
}

const route text_routes[] = {{"POST", "/tokenize", "tokenize", tokenize, 0, ERRORS_OPENAI},
                             {"POST", "/detokenize", "detokenize", detokenize, 0, ERRORS_OPENAI},
                             {"POST", "/apply-template", "apply-template", apply_template, 0, ERRORS_OPENAI},
                             {0}};
