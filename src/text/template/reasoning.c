#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/template/conversation.h"

/* How templates are told whether and how much to reason: families have no common keyword. Whether a template knows one is
 * found out by rendering a conversation with two values of it. */
static const struct {
    const char *level, *name, *value, *other;
} keywords[] = {
    {"off", "enable_thinking", "false", "true"},
    {"off", "thinking", "false", "true"},
    {"off", "thinking_budget", "0", "4096"},
    {"on", "enable_thinking", "true", "false"},
    {"on", "thinking", "true", "false"},
    {"low", "reasoning_effort", "\"low\"", "\"high\""},
    {"medium", "reasoning_effort", "\"medium\"", "\"high\""},
    {"high", "reasoning_effort", "\"high\"", "\"low\""},
};
enum { KEYWORDS = sizeof keywords / sizeof *keywords, TEXT_MAX = 256 };

static const char *const levels[] = {"off", "on", "low", "medium", "high"};
enum { LEVELS = sizeof levels / sizeof *levels };

/* A conversation with these keywords; NULL where the template cannot render it. */
static char *rendered(const chat_program *t, const template_caps *caps, const char *words)
{
    const conversation c = {.messages = "[{\"role\":\"user\",\"content\":\"QUESTION\"}]",
                            .keywords = words,
                            .bos = "",
                            .eos = "",
                            .prompt = true};
    const template_limits limits = {8 << 20, 1 << 20, 200000};
    template_text text = {0};
    template_fault fault = {0};
    char *all = NULL;
    if (!conversation_render(t, caps, &c, &limits, &text, &fault))
        all = mem_strdup(text.text, text.length, NULL);
    template_fault_free(&fault);
    template_text_free(&text);
    return all;
}

/* {"name": value} behind what stands in `words`, an object without its end. */
static void with_keyword(char *out, const char *words, const char *name, const char *value)
{
    snprintf(out, TEXT_MAX, "%s%s\"%s\": %s}", words, words[1] ? ", " : "", name, value);
}

static bool tells_apart(const chat_program *t, const template_caps *caps, const char *words, size_t i)
{
    char text[2][TEXT_MAX];
    if (!template_reads(t, keywords[i].name))
        return false;
    with_keyword(text[0], words, keywords[i].name, keywords[i].value);
    with_keyword(text[1], words, keywords[i].name, keywords[i].other);
    char *one = rendered(t, caps, text[0]), *other = rendered(t, caps, text[1]);
    bool apart = one && other && strcmp(one, other) != 0;
    free(one);
    free(other);
    return apart;
}

/* The keywords of a level that the template knows, added to an object without its end. false: there are none. */
static bool add_level(const chat_program *t, const template_caps *caps, const char *level, char *words)
{
    bool any = false;
    for (size_t i = 0; i < KEYWORDS; i++) {
        char text[TEXT_MAX];
        if (strcmp(keywords[i].level, level) != 0 || !tells_apart(t, caps, words, i))
            continue;
        with_keyword(text, words, keywords[i].name, keywords[i].value);
        text[strlen(text) - 1] = 0;
        memcpy(words, text, strlen(text) + 1);
        any = true;
    }
    return any;
}

static bool knows(const chat_program *t, const template_caps *caps, const char *level, char *words)
{
    strcpy(words, "{");
    if (strcmp(level, "off") != 0 && strcmp(level, "on") != 0)
        add_level(t, caps, "on", words); /* how much says nothing where it is off */
    return add_level(t, caps, level, words);
}

odmoe_status conversation_reasoning(const chat_program *t, const template_caps *caps, const char *level, char **out,
                                    odmoe_error *err)
{
    char words[TEXT_MAX], known[64] = "";
    bool exists = false;
    for (size_t i = 0; i < LEVELS; i++)
        exists |= !strcmp(level, levels[i]);
    if (exists && knows(t, caps, level, words)) {
        strcat(words, "}");
        *out = mem_strdup(words, strlen(words), err);
        return *out ? ODMOE_OK : ODMOE_ERR_MEMORY;
    }
    for (size_t i = 0; i < LEVELS; i++)
        if (knows(t, caps, levels[i], words))
            strcat(strcat(known, *known ? " " : ""), levels[i]);
    return err_set(err, exists ? ODMOE_ERR_UNSUPPORTED : ODMOE_ERR_ARG, "reasoning %.20s: this chat template knows %s",
                   level, *known ? known : "no keyword for reasoning");
}
