/* The vocabularies in tests/data/tokenizers (from llama.cpp, MIT), whole or cut to what the texts need: every text of
 * NAME.inp must give the ids of NAME.out, and the ids must give the text back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/stream.h"
#include "text/tokenizer.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, n, f), n);
    text[n] = 0;
    fclose(f);
    return text;
}

/* The text that the ids stand for must be `text`. */
static void check_decoding(const tokenizer *t, const token_list *ids, const char *text, size_t length)
{
    odmoe_error err;
    text_stream *s;
    assert_int_equal(text_stream_create(t, TEXT_STREAM_START, &s, &err), ODMOE_OK);
    size_t at = 0, n;
    const char *bytes;
    for (size_t i = 0; i <= ids->count; i++) {
        if (i < ids->count)
            text_stream_push(s, ids->ids[i], &bytes, &n);
        else
            text_stream_flush(s, &bytes, &n);
        assert_true(at + n <= length);
        assert_memory_equal(bytes, text + at, n);
        at += n;
    }
    assert_int_equal(at, length);
    text_stream_free(s);
}

static void check_text(const tokenizer *t, const char *text, size_t length, const char *expected)
{
    odmoe_error err;
    token_list ids = {0};
    assert_int_equal(tokenizer_encode(t, text, length, 0, &ids, &err), ODMOE_OK);
    for (size_t i = 0; i < ids.count; i++) {
        char *end;
        long id = strtol(expected, &end, 10);
        assert_ptr_not_equal(end, expected);
        assert_int_equal(ids.ids[i], id);
        expected = end;
    }
    assert_int_equal(strspn(expected, " "), strcspn(expected, "\n"));
    check_decoding(t, &ids, text, length);
    free(ids.ids);
}

typedef struct subject {
    const char *name, *folder; /* the environment variable with the folder of NAME.gguf */
    int texts;
} subject;

/* The contents of NAME + suffix in the tests' data. */
static char *read_beside(const char *name, const char *suffix)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizers/%s%s", getenv("ODMOE_TEST_DATA"), name, suffix);
    return read_file(path);
}

static void texts_give_the_published_ids(void **state)
{
    const subject *s = *state;
    bool whole = !strcmp(s->folder, "ODMOE_TEST_UNPACKED");
    odmoe_error err;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%s.gguf", getenv(s->folder), whole ? "" : "tokenizers/", s->name);
    tokenizer *t;
    if (tokenizer_open(path, &t, &err))
        fail_msg("%s", err.message);
    char *inputs = read_beside(s->name, whole ? ".gguf.inp" : ".inp");
    char *outputs = read_beside(s->name, whole ? ".gguf.out" : ".out");

    int count = 0;
    const char *expected = outputs;
    for (char *text = inputs, *next; (next = strstr(text, SEPARATOR)); text = next + strlen(SEPARATOR), count++) {
        check_text(t, text, (size_t)(next - text), expected);
        expected += strcspn(expected, "\n");
        assert_int_equal(*expected++, '\n');
    }
    assert_int_equal(count, s->texts);
    assert_int_equal(*expected, 0);
    free(inputs);
    free(outputs);
    tokenizer_free(t);
}

int main(void)
{
#define WHOLE(name)                                                                                 \
    {                                                                                               \
        name ": texts give the published ids", texts_give_the_published_ids, NULL, NULL, &(subject) \
        {                                                                                           \
            "ggml-vocab-" name, "ODMOE_TEST_UNPACKED", 46                                           \
        }                                                                                           \
    }
#define CUT(name, texts)                                                                            \
    {                                                                                               \
        name ": texts give the published ids", texts_give_the_published_ids, NULL, NULL, &(subject) \
        {                                                                                           \
            "cut/" name, "ODMOE_TEST_DATA", texts                                                   \
        }                                                                                           \
    }
    const struct CMUnitTest tests[] = {
        WHOLE("gpt-2"),     WHOLE("qwen2"), WHOLE("phi-3"),    CUT("falcon", 46),
        CUT("gemma-4", 45), CUT("mpt", 46), CUT("qwen35", 47),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
