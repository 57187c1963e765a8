/* What the server is and does: models, health, props, slots. */
#include <string.h>

#include "serve.h"

static json_t *model_json(const struct server *s)
{
    char created_at[32];
    struct tm t;
    gmtime_r(&s->started, &t);
    strftime(created_at, sizeof created_at, "%Y-%m-%dT%H:%M:%SZ", &t);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "id", s->name, "object", "model", "created",
                     (json_int_t)s->started, "owned_by", "odmoe", "type", "model", "display_name", s->name,
                     "created_at", created_at, "lifecycle", "active", "context_length", s->context, "max_model_len",
                     s->context);
}

static bool list(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    reply_json(reply, 200,
               json_pack("{s:s, s:[o], s:b, s:s, s:s}", "object", "list", "data", model_json(s), "has_more", 0,
                         "first_id", s->name, "last_id", s->name));
    return true;
}

static bool one(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    if (strcmp(request->rest, s->name))
        return problem_set(p, 404, "model_not_found", "model", "this server has no such model; it has %s", s->name);
    reply_json(reply, 200, model_json(s));
    return true;
}

static bool health(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    uint64_t total = atomic_load(&s->loading_total);
    switch (atomic_load(&s->state)) {
    case SERVER_READY:
        reply_json(reply, 200, json_pack("{s:s}", "status", "ok"));
        return true;
    case SERVER_LOADING:
        reply_json(reply, 503,
                   json_pack("{s:s, s:f}", "status", "loading", "progress",
                             total ? (double)atomic_load(&s->loaded) / (double)total : 0.0));
        break;
    default:
        reply_json(reply, 503, json_pack("{s:s}", "status", "draining"));
    }
    reply_header(reply, "Retry-After", "2");
    return true;
}

static bool props(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    reply_json(reply, 200,
               json_pack("{s:i, s:s, s:s?, s:s, s:{s:b, s:b}, s:{s:i}}", "total_slots", s->sequences, "model_alias",
                         s->name, "chat_template", s->template_source, "build_info", s->fingerprint, "modalities",
                         "vision", 0, "audio", 0, "default_generation_settings", "n_ctx", s->context));
    return true;
}

enum { SLOTS_MOST = 256 };

static bool slots(struct server *s, http_request *request, http_reply *reply, problem *p)
{
    static const char *const states[] = {[SLOT_IDLE] = "idle", [SLOT_PROMPT] = "prompt", [SLOT_DECODE] = "decode"};
    engine_slot all[SLOTS_MOST];
    json_t *out = json_array();
    int n = engine_slots(s->engine, all, SLOTS_MOST);
    for (int i = 0; i < n && i < SLOTS_MOST; i++) {
        const engine_slot *e = &all[i];
        json_array_append_new(out,
                              json_pack("{s:i, s:i, s:b, s:s, s:s?, s:i, s:i, s:i, s:i, s:f}", "id", e->id, "n_ctx",
                                        e->context, "is_processing", e->state != SLOT_IDLE, "state", states[e->state],
                                        "request_id", *e->request_id ? e->request_id : NULL, "n_prompt_tokens",
                                        e->prompt_tokens, "n_cached_tokens", e->cached_tokens, "n_decoded",
                                        e->decoded_tokens, "n_tokens", e->tokens, "seconds", e->seconds));
    }
    reply_json(reply, 200, out);
    return true;
}

const route model_routes[] = {{"GET", "/v1/models", "models", list, 0, ERRORS_OPENAI},
                              {"GET", "/v1/models/", "models", one, 0, ERRORS_OPENAI},
                              {"GET", "/v1/health", "health", health, ROUTE_NO_KEY | ROUTE_ALWAYS, ERRORS_OPENAI},
                              {"GET", "/props", "props", props, 0, ERRORS_OPENAI},
                              {"GET", "/slots", "slots", slots, 0, ERRORS_OPENAI},
                              {0}};
