/* conversation.h - a conversation in OpenAI's shape, changed to what a template takes, and rendered.
 *
 * Requests differ from what templates expect: content in parts or null, arguments as text, system messages in the
 * middle, roles that a template drops silently. When a template is compiled, small conversations are rendered with it
 * to find out what it takes. */
#ifndef ODMOE_TEXT_TEMPLATE_CONVERSATION_H
#define ODMOE_TEXT_TEMPLATE_CONVERSATION_H

#include "base/status.h"
#include "text/template/template.h"

/* What a template takes, as trial renderings show. */
typedef struct template_caps {
    bool system;              /* a system message at the front is shown */
    bool later_system;        /* so is one in the middle, at its place */
    bool tools;               /* tools are shown */
    bool text_arguments;      /* a call's arguments must be text; else an object */
    bool short_ids;           /* ids of calls must have nine letters or digits (Mistral) */
    bool hidden_calls;        /* calls are not shown: they are written into their message's content */
    bool python_calls;        /* ... in the notation that LFM2's template asks for without showing it */
    bool thinking_or_content; /* a call's message must not have both (gpt-oss) */
} template_caps;

template_caps template_probe(const chat_program *t);

typedef struct conversation {
    const char *messages;  /* JSON, a list; all JSON texts are terminated and borrowed */
    const char *tools;     /* JSON, a list, or NULL */
    const char *keywords;  /* JSON, an object of further variables, or NULL */
    const char *bos, *eos; /* texts of the begin and end tokens; NULL counts as "" */
    bool prompt;           /* end where the assistant's answer begins */
    bool go_on;            /* a last assistant message without calls is to be continued: end inside it */
    int64_t now;
    bool tell_calls; /* calls that the template does not show are written into their messages' content */
} conversation;

/* conversation_render - template_render for a conversation. Everything that comes from the JSON texts is foreign. DATA
 * errors name the place ("messages[2].content[1].type: ..."). */
template_error conversation_render(const chat_program *t, const template_caps *caps, const conversation *c,
                                   const template_limits *limits, template_text *out, template_fault *fault);

/* conversation_reasoning - the keywords that tell the template how much to reason: level off, on, low, medium, high. *out is
 * a JSON object; free() it. ERR_ARG: no such level; ERR_UNSUPPORTED: the template does not know it, the message says which
 * it knows; ERR_MEMORY. */
odmoe_status conversation_reasoning(const chat_program *t, const template_caps *caps, const char *level, char **out,
                                    odmoe_error *err);

#endif
