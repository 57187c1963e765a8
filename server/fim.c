#include "fim.h"

#include <string.h>

static const fim_form forms[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, /* Qwen */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},       /* StarCoder, Granite */
    {"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"},       /* Ling */
    {"<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"}, /* DeepSeek */
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"},                                     /* GLM */
    {"[PREFIX]", "[SUFFIX]", NULL},                                                                /* Mistral */
};

static bool is_token(const odmoe_tokenizer *tokenizer, const char *text)
{
    int32_t id;
    size_t n = 0;
    return !text ||
           (!odmoe_tokenize(tokenizer, text, strlen(text), ODMOE_TOKENIZE_SPECIAL, &id, 1, &n, NULL) && n == 1);
}

const fim_form *fim_form_of(const odmoe_tokenizer *tokenizer)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (is_token(tokenizer, forms[i].prefix) && is_token(tokenizer, forms[i].suffix) &&
            is_token(tokenizer, forms[i].middle))
            return &forms[i];
    return NULL;
}

void fim_text(const fim_form *form, const char *before, const char *behind, buffer *out)
{
    const char *const in_order[] = {form->prefix, before, form->suffix, behind, form->middle};
    const char *const behind_first[] = {form->suffix, behind, form->prefix, before, ""};
    for (int i = 0; i < 5; i++)
        buffer_text(out, form->middle ? in_order[i] : behind_first[i]);
}
