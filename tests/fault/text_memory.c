/* Tokens, chat and sampling while memory runs out. */
#include "failing_memory.h"
#include "vocab_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/output/output.h"
#include "text/sampler.h"
#include "text/stream.h"
#include "text/template/conversation.h"
#include "text/tokenizer.h"

static const char SMALL_JSON[] =
    "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,\"normalized\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":"
    "{\"String\":\" \"},\"content\":\"_\"}]},\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}";

static odmoe_status open_path(const void *path, odmoe_error *err)
{
    tokenizer *t;
    odmoe_status st = tokenizer_open(path, &t, err);
    if (!st)
        tokenizer_free(t);
    return st;
}

static void fail_open(const vocab_spec *spec)
{
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("vocab.gguf"));
    save_vocab(path, spec);
    fail_each(open_path, path, 20, ODMOE_ERR_MEMORY);
}

static void opening_vocabularies(void **state)
{
    vocab_spec spec = spec_bpe();
    fail_open(&spec);
    spec = spec_scored();
    fail_open(&spec);
}

static const char UNIGRAM_JSON[] = "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1],[\"\\u0000\",-2]]}}";
static const char NUL_JSON[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\u0000\":1},\"merges\":[]}}";
static const char CONFIG[] =
    "{\"tokenizer_class\":\"TikTokenTokenizer\",\"added_tokens_decoder\":{\"2\":{\"content\":\"<x>\"}}}";

static void opening_folders(void **state)
{
    static const struct {
        const char *name, *text;
        int least; /* allocations */
    } cases[] = {{"tokenizer.json", SMALL_JSON, 100},
                 {"tokenizer.json", UNIGRAM_JSON, 60},
                 {"tokenizer.json", NUL_JSON, 60},
                 {"tiktoken.model", "YQ== 0\nYWE= 1\n", 60}};
    char folder[1024], file[1100], config[1100];
    snprintf(folder, sizeof folder, "%s", temp_path("model"));
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(mkdir(folder, 0700), 0);
        snprintf(file, sizeof file, "%s/%s", folder, cases[i].name);
        save_text(file, cases[i].text);
        if (cases[i].text != SMALL_JSON)
            save_text(config, CONFIG);
        fail_each(open_path, folder, cases[i].least,
                  ODMOE_ERR_FORMAT); /* jansson's own failures look like syntax errors */
        unlink(file);
        unlink(config);
        assert_int_equal(rmdir(folder), 0);
    }
}

static odmoe_status encode(const void *t, odmoe_error *err)
{
    static const char text[] = " hello e\xCC\x81 \xFF hello<s> hellll";
    token_list ids = {0};
    odmoe_status st = tokenizer_encode(t, text, sizeof text, TOKENIZER_SPECIAL | TOKENIZER_START, &ids, err);
    free(ids.ids);
    return st;
}

static void encoding(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        vocab_spec spec = kind ? spec_scored() : spec_bpe();
        tokenizer *t;
        odmoe_error err;
        save_vocab(temp_path("vocab.gguf"), &spec);
        assert_int_equal(tokenizer_open(temp_path("vocab.gguf"), &t, &err), ODMOE_OK);
        fail_each(encode, t, 4, ODMOE_ERR_MEMORY);
        tokenizer_free(t);
    }
}

static odmoe_status chat(const void *text, odmoe_error *err)
{
    template_fault fault = {0};
    template_text out = {0};
    const template_caps caps = {.system = true, .later_system = true, .tools = true};
    const conversation c = {.messages =
                                "[{\"role\":\"user\",\"content\":\"he\\nllo\"},{\"role\":\"assistant\",\"content\":"
                                "\"hell\"},{\"role\":\"user\",\"content\":\"o\"}]",
                            .prompt = true};
    chat_program *t = template_compile(text, strlen(text), &fault);
    template_error e = t ? conversation_render(t, &caps, &c, NULL, &out, &fault) : fault.kind;
    template_fault_free(&fault);
    template_text_free(&out);
    template_free(t);
    if (e && e != TEMPLATE_MEMORY)
        fail_msg("%s", template_error_name(e));
    return e ? err_set(err, ODMOE_ERR_MEMORY, "no memory for a template") : ODMOE_OK;
}

static void ignore(void *user, const output_delta *d)
{
}

static odmoe_status parse_pieces(const char *text, bool stream, odmoe_error *err)
{
    output *o;
    odmoe_status st =
        output_create(output_format_find("qwen3.5"), "<think>\n", "[{\"type\":\"function\"}]", ignore, NULL, &o, err);
    if (st)
        return st;
    if (stream)
        output_stream_calls(o);
    for (const char *at = text; !st && *at; at++)
        st = output_feed(o, at, 1, err);
    if (!st)
        st = output_end(o, err);
    output_free(o);
    return st;
}

static odmoe_status parse_output(const void *text, odmoe_error *err)
{
    return parse_pieces(text, false, err);
}

static odmoe_status stream_output(const void *text, odmoe_error *err)
{
    return parse_pieces(text, true, err);
}

static odmoe_status create_stream(const void *t, odmoe_error *err)
{
    text_stream *s;
    odmoe_status st = text_stream_create(t, 0, &s, err);
    if (!st)
        text_stream_free(s);
    return st;
}

static void chatting_and_streaming(void **state)
{
    vocab_spec spec = spec_bpe();
    tokenizer *t;
    odmoe_error err;
    save_vocab(temp_path("vocab.gguf"), &spec);
    assert_int_equal(tokenizer_open(temp_path("vocab.gguf"), &t, &err), ODMOE_OK);
    static const char text[] = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content "
                               "| trim + '<|im_end|>\n' }}"
                               "{% endfor %}";
    fail_each(chat, text, 5, ODMOE_ERR_MEMORY);
    fail_each(parse_output,
              "why</think>so<tool_call><function=f><parameter=x>[1, 'a']</parameter></function></tool_call>", 6,
              ODMOE_ERR_ARG); /* jansson does not tell a lack of memory from malformed tools */
    fail_each(stream_output, "<tool_call><function=f><parameter=x>1</parameter><parameter=y>[1, 'a", 6, ODMOE_ERR_ARG);
    fail_each(create_stream, t, 1, ODMOE_ERR_MEMORY);
    tokenizer_free(t);
}

static odmoe_status create_sampler(const void *options, odmoe_error *err)
{
    sampler *s;
    odmoe_status st = sampler_create(options, 1000, &s, err);
    if (!st)
        sampler_free(s);
    return st;
}

static void sampling(void **state)
{
    const odmoe_sampler_options options = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    fail_each(create_sampler, &options, 1, ODMOE_ERR_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_vocabularies),   cmocka_unit_test(opening_folders), cmocka_unit_test(encoding),
        cmocka_unit_test(chatting_and_streaming), cmocka_unit_test(sampling),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
