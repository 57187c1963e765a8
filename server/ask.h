/* ask.h - what a request asks for, in one shape for all protocols: OpenAI's chat.
 *
 * A protocol initialises an ask, reads its own fields into it, and the common ones by the functions here; answer.h makes a
 * job of it. Texts and JSON that are not marked as owned are borrowed from the request.
 *
 * Threads: an ask belongs to one. */
#ifndef ODMOE_SERVER_ASK_H
#define ODMOE_SERVER_ASK_H

#include <odmoe.h>

#include "fields.h"

struct server; /* serve.h */

enum { STOPS_MOST = 16, STOP_BYTES_MOST = 4096, LOGPROBS_MOST = 20 };

typedef enum tool_choice { TOOLS_AUTO, TOOLS_NONE, TOOLS_REQUIRED, TOOLS_NAMED } tool_choice;

/* What constrains the content. */
typedef enum constraint { CONSTRAINT_NONE, CONSTRAINT_GRAMMAR, CONSTRAINT_SCHEMA } constraint;

typedef struct ask {
    /* The prompt. */
    json_t *messages; /* owned; as conversation.h makes them */
    json_t *tools;    /* owned; a list of {"type": "function", "function": ...}, not empty; NULL: there are none */
    json_t *keywords; /* owned; an object of variables of the template */
    const char *prompt_param; /* the field that is to blame for too long a prompt: "messages", "input" */
    /* How tools are used. */
    tool_choice choice;
    const char *tool_name; /* of TOOLS_NAMED */
    bool one_call;
    /* What constrains the answer. */
    constraint constraint;
    const char *grammar;         /* GBNF */
    json_t *schema;              /* owned */
    field_path constraint_param; /* the field that it came from */
    /* Sampling and limits, as in job.h. */
    odmoe_sampler_options sampling;
    odmoe_logit_bias *bias; /* owned */
    const char *stop[STOPS_MOST];
    size_t stop_count;
    int32_t max_tokens;
    int32_t thinking_budget;
    bool no_thinking; /* it was switched off */
    int logprobs;
    bool ignore_eos, cache_prompt;
    /* How it is sent. */
    bool stream, include_usage;
} ask;

void ask_init(const struct server *s, ask *a);
void ask_free(ask *a);
/* ask_forget - drop what is large, once the job is made: messages, tools, schema. What is borrowed may go then, too. */
void ask_forget(ask *a);

/* ask_read_common - temperature, top_p, min_p, top_k, penalties, logit_bias, seed, grammar, json_schema, cache_prompt, ignore_eos,
 * thinking, thinking_budget_tokens, enable_thinking, reasoning_effort, chat_template_kwargs, stream: the fields that all protocols take. */
bool ask_read_common(const struct server *s, ask *a, const json_t *body, problem *p);
/* ask_read_limit - one field that limits the tokens of the answer; of several the smallest counts. */
bool ask_read_limit(ask *a, const json_t *body, const char *key, problem *p);
/* ask_read_stop - a string or a list of at most STOPS_MOST. */
bool ask_read_stop(ask *a, const json_t *body, const char *key, problem *p);
/* ask_read_stream - stream_options of chat and completions. */
bool ask_read_stream(ask *a, const json_t *body, problem *p);
/* ask_read_format - response_format of chat and completions. */
bool ask_read_format(ask *a, const json_t *body, problem *p);
/* ask_set_schema - constrain the content to a schema, which is at `where`. One constraint only. ask_set_object - to any
 * object. */
bool ask_set_schema(ask *a, json_t *schema, const char *where, problem *p);
bool ask_set_object(ask *a, const char *where, problem *p);
/* ask_set_thinking - switch the model's thinking on or off, where its template can. */
void ask_set_thinking(const struct server *s, ask *a, bool on);
/* ask_set_effort - "none" switches thinking off; minimal, low, medium, high, xhigh, max go to the template. */
bool ask_set_effort(const struct server *s, ask *a, const char *effort, const char *where, problem *p);

/* ask_read_tools - tools, tool_choice and parallel_tool_calls of chat. */
bool ask_read_tools(ask *a, const json_t *body, problem *p);
/* ask_add_tool - one more function, from an object that holds name, description, strict, and its parameters under `schema_key`: the
 * form of tools in messages and responses. where: its path. */
bool ask_add_tool(ask *a, const json_t *tool, const char *schema_key, const char *where, problem *p);
/* ask_check_tools - checks for all protocols: a named tool is in the list, there is one constraint only. where: the field
 * of the choice. */
bool ask_check_tools(const ask *a, const char *where, problem *p);

#endif
