#include "vocab_files.h"

#include <stdio.h>
#include <string.h>

/* Metadata types' numbers in a GGUF file. */
enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9 };
enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

#define BPE_TOKENS (256 + 8)
#define SCORED_TOKENS (3 + 256 + 10)
#define MARK "\xE2\x96\x81"

static char byte_texts[256][8];
static const char *texts[512];
static int types[512];
static float scores[512];

/* GPT-2's visible alphabet: the character that stands for a byte. */
static void byte_text(int byte, char *out)
{
    int c = byte, hidden = 0;
    for (int i = 0; i <= byte; i++)
        if (i < 33 || (i > 126 && i < 161) || i == 173) {
            hidden++;
            c = i == byte ? 0xFF + hidden : byte;
        }
    if (c < 0x80)
        snprintf(out, 8, "%c", c);
    else
        snprintf(out, 8, "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
}

vocab_spec spec_bpe(void)
{
    static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "\xC4\xA0 hello", "o <|end|>"};
    static const char *const more[] = {"he", "ll", "hell", "hello", "\xC4\xA0hello", "<|end|>", "<s>", "<think>"};
    static const int more_types[] = {NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, CONTROL, CONTROL, USER};
    for (int i = 0; i < 256; i++) {
        byte_text(i, byte_texts[i]);
        texts[i] = byte_texts[i];
        types[i] = NORMAL;
    }
    for (int i = 0; i < 8; i++) {
        texts[256 + i] = more[i];
        types[256 + i] = more_types[i];
    }
    return (vocab_spec){.model = "gpt2",
                        .pre = "gpt-2",
                        .tokens = texts,
                        .types = types,
                        .token_count = BPE_TOKENS,
                        .type_count = BPE_TOKENS,
                        .merges = merges,
                        .merge_count = 6,
                        .bos = 262,
                        .eos = 261,
                        .eot = -1,
                        .unknown = -1,
                        .add_bos = 1};
}

vocab_spec spec_scored(void)
{
    static const char *const more[] = {MARK, "h", "e", "l", "o", "he", "ll", MARK "hello", "hell", "hello"};
    texts[0] = "<unk>";
    texts[1] = "<s>";
    texts[2] = "</s>";
    types[0] = UNKNOWN;
    types[1] = types[2] = CONTROL;
    for (int i = 0; i < 256; i++) {
        snprintf(byte_texts[i], 8, "<0x%02X>", i);
        texts[3 + i] = byte_texts[i];
        types[3 + i] = BYTE;
    }
    for (int i = 0; i < 10; i++) {
        texts[259 + i] = more[i];
        types[259 + i] = NORMAL;
        scores[259 + i] = i == 5 ? -1.f : i == 6 ? -2.f : -10.f - (float)i;
    }
    return (vocab_spec){.model = "llama",
                        .pre = "default",
                        .tokens = texts,
                        .types = types,
                        .scores = scores,
                        .token_count = SCORED_TOKENS,
                        .type_count = SCORED_TOKENS,
                        .score_count = SCORED_TOKENS,
                        .bos = 1,
                        .eos = 2,
                        .eot = -1,
                        .unknown = 0,
                        .add_bos = -1};
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static uint64_t pairs;

static void key(bytes *b, const char *name, unsigned type)
{
    put_gguf_text(b, name);
    put_number(b, type, 4);
    pairs++;
}

static void text_pair(bytes *b, const char *name, const char *text)
{
    if (!text)
        return;
    key(b, name, STRING);
    put_gguf_text(b, text);
}

static void id_pair(bytes *b, const char *name, long id)
{
    if (id < 0)
        return;
    key(b, name, U32);
    put_number(b, (uint64_t)id, 4);
}

static void array(bytes *b, const char *name, unsigned type, size_t count)
{
    key(b, name, ARRAY);
    put_number(b, type, 4);
    put_number(b, count, 8);
}

static void texts_pair(bytes *b, const char *name, const char *const *list, size_t count)
{
    if (!list)
        return;
    array(b, name, STRING, count);
    for (size_t i = 0; i < count; i++)
        put_gguf_text(b, list[i]);
}

void save_vocab(const char *path, const vocab_spec *spec)
{
    bytes b = {0};
    pairs = 0;
    put_text(&b, "GGUF");
    put_number(&b, 3, 4);
    put_number(&b, 0, 8); /* tensors */
    put_number(&b, 0, 8); /* pairs: below */
    text_pair(&b, "general.architecture", "anything");
    text_pair(&b, "general.name", spec->name);
    text_pair(&b, "tokenizer.ggml.model", spec->model);
    text_pair(&b, "tokenizer.ggml.pre", spec->pre);
    text_pair(&b, "tokenizer.chat_template", spec->chat_template);
    texts_pair(&b, "tokenizer.ggml.tokens", spec->tokens, spec->token_count);
    texts_pair(&b, "tokenizer.ggml.merges", spec->merges, spec->merge_count);
    if (spec->types) {
        array(&b, "tokenizer.ggml.token_type", I32, spec->type_count);
        for (size_t i = 0; i < spec->type_count; i++)
            put_number(&b, (uint64_t)(int64_t)spec->types[i], 4);
    }
    if (spec->scores) {
        array(&b, "tokenizer.ggml.scores", F32, spec->score_count);
        for (size_t i = 0; i < spec->score_count; i++)
            put(&b, &spec->scores[i], 4);
    }
    id_pair(&b, "tokenizer.ggml.bos_token_id", spec->bos);
    id_pair(&b, "tokenizer.ggml.eos_token_id", spec->eos);
    id_pair(&b, "tokenizer.ggml.eot_token_id", spec->eot);
    id_pair(&b, "tokenizer.ggml.unknown_token_id", spec->unknown);
    if (spec->add_bos >= 0) {
        key(&b, "tokenizer.ggml.add_bos_token", BOOL);
        put_number(&b, (uint64_t)spec->add_bos, 1);
    }
    patch_number(&b, 16, pairs, 8);
    save(path, &b);
    bytes_free(&b);
}
