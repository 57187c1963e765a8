/* Prompts for a gap: the form that a vocabulary has tokens for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/fim.h"
#include "vocab_files.h"

/* A vocabulary with three special tokens more. */
static odmoe_tokenizer *with_tokens(const char *const *more, size_t n)
{
    static const char *tokens[512];
    static int types[512];
    odmoe_tokenizer *tokenizer;
    odmoe_error err;
    vocab_spec spec = spec_bpe();
    memcpy(tokens, spec.tokens, spec.token_count * sizeof *tokens);
    memcpy(types, spec.types, spec.type_count * sizeof *types);
    for (size_t i = 0; i < n; i++) {
        tokens[spec.token_count + i] = more[i];
        types[spec.token_count + i] = 3; /* control */
    }
    spec.tokens = tokens;
    spec.types = types;
    spec.token_count += n;
    spec.type_count += n;
    save_vocab(temp_path("fim.gguf"), &spec);
    if (odmoe_tokenizer_open(temp_path("fim.gguf"), &tokenizer, &err))
        fail_msg("%s", err.message);
    return tokenizer;
}

static void expect(const char *const *more, size_t n, const char *expected)
{
    odmoe_tokenizer *tokenizer = with_tokens(more, n);
    const fim_form *form = fim_form_of(tokenizer);
    buffer text = {0};
    if (form)
        fim_text(form, "BEFORE", "BEHIND", &text);
    assert_string_equal(text.data ? text.data : "", expected);
    buffer_free(&text);
    odmoe_tokenizer_close(tokenizer);
}

static void a_gap_is_written_in_the_models_own_order(void **state)
{
    static const char *const qwen[] = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, *const mistral[] = {
                                                                                                  "[PREFIX]",
                                                                                                  "[SUFFIX]"};
    expect(qwen, 3, "<|fim_prefix|>BEFORE<|fim_suffix|>BEHIND<|fim_middle|>");
    expect(mistral, 2, "[SUFFIX]BEHIND[PREFIX]BEFORE");
}

static void a_model_without_all_of_the_tokens_has_no_form(void **state)
{
    static const char *const some[] = {"<|fim_prefix|>", "<|fim_suffix|>"};
    expect(some, 2, "");
    expect(NULL, 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_is_written_in_the_models_own_order),
        cmocka_unit_test(a_model_without_all_of_the_tokens_has_no_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
