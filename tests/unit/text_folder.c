/* tokenizer.json: what stands beside it, and what is refused. */
#include "vocab_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/tokenizer.h"

static odmoe_error err;

/* A small model; the %s are the vocabulary's end, merges, and further members of the whole. */
#define MODEL                                                                                           \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2%s},\"merges\":[%s]},"             \
    "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</s>\"," \
    "\"special\":true},{\"id\":5,\"content\":\"<|im_end|>\",\"special\":true}]%s}"

static char *folder(void)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("model"));
    mkdir(path, 0700);
    return path;
}

/* Write folder/name; NULL removes it. */
static void put_file(const char *name, const char *text)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder(), name);
    if (text)
        save_text(path, text);
    else
        unlink(path);
}

static int clean(void **state)
{
    static const char *const names[] = {"tokenizer.json",         "tokenizer_config.json", "config.json",
                                        "generation_config.json", "added_tokens.json",     "tiktoken.model",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        put_file(names[i], NULL);
    return rmdir(folder());
}

static void put_model(const char *vocab, const char *merges, const char *more)
{
    char text[8192];
    snprintf(text, sizeof text, MODEL, vocab, merges, more);
    put_file("tokenizer.json", text);
}

static tokenizer *open_folder(void)
{
    tokenizer *t = NULL;
    if (tokenizer_open(folder(), &t, &err))
        fail_msg("%s", err.message);
    return t;
}

static void check_refused(odmoe_status status, const char *word, const char *word2)
{
    tokenizer *t = NULL;
    memset(&err, 0, sizeof err);
    odmoe_status st = tokenizer_open(folder(), &t, &err);
    assert_error(&err, st, status, word, word2);
    assert_null(t);
}

static void check_ids(const tokenizer *t, const char *text, unsigned flags, const int *ids)
{
    token_list got = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &got, &err), ODMOE_OK);
    size_t n = 0;
    for (; ids[n] >= 0; n++)
        assert_true(n < got.count && got.ids[n] == ids[n]);
    assert_int_equal(got.count, n);
    free(got.ids);
}
#define IDS(...) ((const int[]){__VA_ARGS__, -1})

static void the_models_type_may_be_left_out(void **state)
{
    put_file("tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}");
    tokenizer *t = open_folder();
    check_ids(t, "aab", 0, IDS(0, 2));
    tokenizer_free(t);
}

static void merges_may_be_texts_or_pairs(void **state)
{
    put_model("", "\"a b\"", "");
    tokenizer *t = open_folder();
    check_ids(t, "aab", 0, IDS(0, 2));
    tokenizer_free(t);
    put_model("", "[\"a\",\"b\"]", "");
    t = open_folder();
    check_ids(t, "aab", 0, IDS(0, 2));
    tokenizer_free(t);
}

static void added_tokens_json_counts_where_tokenizer_config_lists_none(void **state)
{
    put_model("", "", "");
    put_file("tokenizer_config.json", "{\"eos_token\":\"<end>\",\"additional_special_tokens\":[\"<x>\"]}");
    put_file("added_tokens.json", "{\"<end>\":6,\"<x>\":7,\"<y>\":8,\"b\":9}");
    tokenizer *t = open_folder();
    check_ids(t, "<end><x><y>b", TOKENIZER_SPECIAL, IDS(6, 7, 8, 1));
    check_ids(t, "<y>", 0, IDS(8));
    assert_true(tokenizer_is_special(t, 6) && tokenizer_is_special(t, 7) && !tokenizer_is_special(t, 8));
    assert_true(tokenizer_is_end(t, 6));
    tokenizer_free(t);
    put_file("tokenizer_config.json", "{\"added_tokens_decoder\":{\"7\":{\"content\":\"<z>\",\"rstrip\":true}}}");
    t = open_folder();
    check_ids(t, "<z> <x>a", 0, IDS(7, 0));
    assert_int_equal(tokenizer_size(t), 8);
    tokenizer_free(t);
}

static void what_the_files_beside_tokenizer_json_contradict_is_refused(void **state)
{
    put_model("", "", "");
    put_file("tokenizer_config.json", "{\"added_tokens_decoder\":{\"1\":{\"content\":\"<z>\"}}}");
    check_refused(ODMOE_ERR_FORMAT, "id 1", "<z>");
    put_file("tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"<z>\"}}}");
    check_refused(ODMOE_ERR_FORMAT, "added_tokens_decoder", "\"x\"");
    put_file("tokenizer_config.json", "{\"added_tokens_decoder\":{\"99999999\":{\"content\":\"<z>\"}}}");
    check_refused(ODMOE_ERR_FORMAT, "tokenizer.json", "added_tokens");
    put_file("tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}");
    put_file("tokenizer_config.json", "{\"eos_token\":\"<gone>\"}");
    check_refused(ODMOE_ERR_FORMAT, "eos_token", "<gone>");
    put_file("generation_config.json", "{\"eos_token_id\":1}");
    tokenizer_free(open_folder());
}

static void a_byte_token_that_added_tokens_lists_again_stays_one(void **state)
{
    put_file("tokenizer.json",
             "{\"model\":{\"byte_fallback\":true,\"vocab\":{\"a\":0,\"<0x9B>\":1,\"<0xC2>\":2},\"merges\":[]},"
             "\"added_tokens\":[{\"id\":1,\"content\":\"<0x9B>\",\"special\":true}]}");
    tokenizer *t = open_folder();
    check_ids(t, "a\xC2\x9B", 0, IDS(0, 2, 1));
    check_ids(t, "<0x9B>a", TOKENIZER_SPECIAL, IDS(1, 0));
    tokenizer_free(t);
}

static void texts_may_hold_the_character_0(void **state)
{
    put_file("tokenizer.json",
             "{\"model\":{\"vocab\":{\"a\":0,\"\\u0000\":1,\"a\\u0000\":2,\"\uFDD0\":3,\"\\\\u0000\":4},"
             "\"merges\":[[\"a\",\"\\u0000\"]]},"
             "\"added_tokens\":[{\"id\":5,\"content\":\"\\u0000\\u0000\"}]}");
    tokenizer *t = open_folder();
    token_list got = {0};
    assert_int_equal(tokenizer_encode(t, "a\0a\0\0a\xEF\xB7\x90", 9, 0, &got, &err), ODMOE_OK);
    static const int expected[] = {2, 0, 5, 0, 3};
    assert_int_equal(got.count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(got.ids[i], expected[i]);
    free(got.ids);
    assert_int_equal(tokenizer_find(t, "\\u0000", 6), 4);
    tokenizer_free(t);
}

static void a_git_lfs_pointer_is_told_so(void **state)
{
    put_file("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n");
    check_refused(ODMOE_ERR_FORMAT, "tokenizer.json", "Git LFS pointer");
}

#define UNIGRAM(vocab, more) "{\"model\":{\"type\":\"Unigram\",\"vocab\":" vocab more "}}"

static void unigram_takes_the_best_way_through_a_word(void **state)
{
    put_file("tokenizer.json",
             UNIGRAM("[[\"?\",0],[\"a\",-1],[\"ab\",-1.5],[\"b\",-2],[\"bc\",-0.25],[\"abc\",-3]]", ",\"unk_id\":0"));
    tokenizer *t = open_folder();
    check_ids(t, "abc", 0, IDS(1, 4)); /* -1.25; abc alone has -3 */
    check_ids(t, "ab", 0, IDS(2));
    check_ids(t, "xya", 0, IDS(0, 1)); /* unknown neighbours are one */
    tokenizer_free(t);
    put_file("tokenizer.json", UNIGRAM("[[\"a\",-1]]", ""));
    t = open_folder();
    check_ids(t, "axa", 0, IDS(0, 0)); /* no unknown token: left out */
    tokenizer_free(t);
}

static void unigram_with_faults_is_refused(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {{UNIGRAM("[]", ""), "model.vocab"},
                 {UNIGRAM("{\"a\":0}", ""), "model.vocab"},
                 {UNIGRAM("[[\"a\"]]", ""), "model.vocab: 0"},
                 {UNIGRAM("[[\"a\",0],[\"b\",\"c\"]]", ""), "model.vocab: 1"},
                 {UNIGRAM("[[\"a\",NaN]]", ""), "model.vocab: 0"},
                 {UNIGRAM("[[\"a\",0]]", ",\"unk_id\":1"), "unk_id"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("tokenizer.json", cases[i].text);
        check_refused(ODMOE_ERR_FORMAT, "tokenizer.json", cases[i].word);
    }
}

#define KIMI(more) "{\"tokenizer_class\":\"TikTokenTokenizer\"" more "}"

static void a_tiktoken_model_merges_by_rank(void **state)
{
    put_file("tokenizer_config.json",
             KIMI(",\"eos_token\":\"<e>\",\"added_tokens_decoder\":{\"5\":{\"content\":\"<e>\"},"
                  "\"6\":{\"content\":\"<t>\",\"special\":false}}"));
    put_file("tiktoken.model", "YWI= 3\r\nYQ== 0\nYg== 1\nYmE= 2\n"); /* ab 3, a 0, b 1, ba 2; c is missing */
    tokenizer *t = open_folder();
    assert_int_equal(tokenizer_size(t), 4 + 256);
    check_ids(t, "aba", 0, IDS(0, 2)); /* the lower rank goes first */
    check_ids(t, "ab", 0, IDS(3));
    check_ids(t, "<t>a<e>", TOKENIZER_SPECIAL, IDS(6, 0, 5));
    check_ids(t, "<t>a<e>", 0, IDS(6, 0));
    check_ids(t, "<|reserved_token_4|>", TOKENIZER_SPECIAL, IDS(4));
    assert_true(tokenizer_is_end(t, 5));
    tokenizer_free(t);
}

static void a_tiktoken_model_with_faults_is_refused(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {{"", "no tokens"},       {"YQ== 0\nYQ== 0\n", "line 2"},
                 {"YQ== 1\n", "below 1"}, {"YQ== x\n", "line 1"},
                 {"YQ 0\n", "line 1"},    {" 0\n", "line 1"},
                 {"YQ==\n", "line 1"},    {"YQ== 0 1\n", "line 1"},
                 {"Y*== 0\n", "line 1"},  {"YQ== 0\n\nYg== 1", "line 2"},
                 {"==== 0\n", "line 1"}};
    put_file("tokenizer_config.json", KIMI(""));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("tiktoken.model", cases[i].text);
        check_refused(ODMOE_ERR_FORMAT, "tiktoken.model", cases[i].word);
    }
    put_file("tiktoken.model", "YQ== 0\n");
    put_file("tokenizer_config.json", KIMI(",\"added_tokens_decoder\":{\"0\":{\"content\":\"<e>\"}}"));
    check_refused(ODMOE_ERR_FORMAT, "added_tokens_decoder", "1 to 256");
    put_file("tokenizer_config.json", "{\"tokenizer_class\":\"OtherTokenizer\"}");
    check_refused(ODMOE_ERR_UNSUPPORTED, "tiktoken.model", "OtherTokenizer");
    put_file("tokenizer_config.json", NULL);
    check_refused(ODMOE_ERR_FORMAT, "tiktoken.model", "tokenizer_class");
}

static void end_tokens_are_known_by_name(void **state)
{
    put_file("tokenizer.json",
             "{\"model\":{\"vocab\":{\"a\":0,\"</s>\":1},\"merges\":[]},\"added_tokens\":["
             "{\"id\":2,\"content\":\"<|fim_pad|>\"},{\"id\":3,\"content\":\"<|end|>\",\"special\":true},"
             "{\"id\":4,\"content\":\"<|return|>\",\"special\":true},{\"id\":5,\"content\":\"<eos>\"}]}");
    tokenizer *t = open_folder();
    for (int32_t id = 0; id < 6; id++)
        assert_int_equal(tokenizer_is_end(t, id), id >= 2 && id <= 4); /* </s> and <eos> are words there */
    tokenizer_free(t);
    put_file("tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":["
                               "{\"id\":1,\"content\":\"<|end|>\",\"special\":true},"
                               "{\"id\":2,\"content\":\"<|return|>\",\"special\":true},"
                               "{\"id\":3,\"content\":\"<|call|>\",\"special\":true}]}");
    t = open_folder();
    assert_true(!tokenizer_is_end(t, 1) && tokenizer_is_end(t, 2) && tokenizer_is_end(t, 3));
    tokenizer_free(t);
}

static void end_tokens_come_from_all_files(void **state)
{
    put_model("", "", "");
    put_file("tokenizer_config.json", "{\"eos_token\":{\"content\":\"</s>\"},\"bos_token\":\"<s>\"}");
    put_file("config.json", "{\"eos_token_id\":1,\"bos_token_id\":0}");
    put_file("generation_config.json", "{\"eos_token_id\":[2,1,99,-5,\"x\"]}");
    tokenizer *t = open_folder();
    const int32_t *ids;
    assert_int_equal(tokenizer_ends(t, &ids), 4);
    assert_int_equal(ids[0], 4);
    assert_int_equal(ids[1], 1);
    assert_int_equal(ids[2], 2);
    assert_int_equal(ids[3], 5);
    assert_int_equal(tokenizer_bos(t), 3);
    tokenizer_free(t);
    put_file("tokenizer_config.json", NULL);
    t = open_folder();
    assert_int_equal(tokenizer_bos(t), 0); /* config.json's */
    tokenizer_free(t);
    put_file("generation_config.json", NULL);
    put_file("config.json", "{\"text_config\":{\"eos_token_id\":[1,2],\"bos_token_id\":0}}");
    t = open_folder();
    assert_true(tokenizer_is_end(t, 1) && tokenizer_is_end(t, 2));
    assert_int_equal(tokenizer_bos(t), 0);
    tokenizer_free(t);
}

static void start_tokens_are_those_of_the_post_processor_unless_the_config_says_otherwise(void **state)
{
    put_model("", "",
              ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
              "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"S\"}},{\"Sequence\":{\"id\":\"A\"}},"
              "{\"SpecialToken\":{\"id\":\"E\"}}],\"special_tokens\":{\"S\":{\"ids\":[3,1]},\"E\":{\"ids\":[4]}}}]}");
    tokenizer *t = open_folder();
    check_ids(t, "a", TOKENIZER_START, IDS(3, 1, 0));
    assert_int_equal(tokenizer_bos(t), 3);
    tokenizer_free(t);
    put_file("tokenizer_config.json", "{\"add_bos_token\":false,\"bos_token\":\"<s>\"}");
    t = open_folder();
    check_ids(t, "a", TOKENIZER_START, IDS(0));
    tokenizer_free(t);
    put_model("", "", "");
    put_file("tokenizer_config.json", "{\"add_bos_token\":true,\"bos_token\":\"<s>\"}");
    t = open_folder();
    check_ids(t, "a<s>", TOKENIZER_START | TOKENIZER_SPECIAL, IDS(3, 0, 3));
    tokenizer_free(t);
}

static void a_normaliser_may_leave_nothing(void **state)
{
    put_model("", "", ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"\"}");
    tokenizer *t = open_folder();
    check_ids(t, "xx", 0, IDS(-1));
    check_ids(t, "xax", 0, IDS(0));
    tokenizer_free(t);
}

static void a_normaliser_that_multiplies_a_text_is_refused(void **state)
{
    char content[501], more[2048];
    memset(content, 'x', 500);
    content[500] = 0;
    snprintf(more, sizeof more,
             ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
             "\"x\"},\"content\":\"%s\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"%s\"}]}",
             content, content);
    put_model("", "", more);
    tokenizer *t = open_folder();
    token_list got = {0};
    odmoe_status st = tokenizer_encode(t, "x", 1, 0, &got, &err);
    assert_error(&err, st, ODMOE_ERR_RANGE, "the text grows beyond", "bytes");
    free(got.ids);
    tokenizer_free(t);

    char text[4096]; /* and so is an added token that becomes longer than any token */
    snprintf(text, sizeof text,
             "{\"added_tokens\":[{\"id\":2,\"content\":\"x\"}],\"model\":{\"vocab\":{\"a\":0,\"b\":1},"
             "\"merges\":[]}%s}",
             more);
    put_file("tokenizer.json", text);
    check_refused(ODMOE_ERR_FORMAT, "tokenizer.json: added_tokens: the added token 2", "normalised");
}

static void ids_may_have_gaps(void **state)
{
    put_model(",\"c\":60", "", "");
    tokenizer *t = open_folder();
    assert_int_equal(tokenizer_size(t), 61);
    char text[8];
    assert_int_equal(tokenizer_piece(t, 30, text, sizeof text), 0);
    check_ids(t, "cb", 0, IDS(60, 1));
    tokenizer_free(t);
}

static void broken_files_are_refused_by_field(void **state)
{
    static const struct {
        const char *json, *word, *word2;
    } cases[] = {
        {"[]", "tokenizer.json", "object"},
        {"{\"model\":", "tokenizer.json", "line 1"},
        {"{}", "/model/tokenizer.json", "model"},
        {"{\"model\":{\"type\":\"BPE\"}}", "tokenizer.json", "model.vocab"},
        {"{\"model\":{\"merges\":[]}}", "tokenizer.json", "model.vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "tokenizer.json", "model.vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "model.vocab", "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2147483648},\"merges\":[]}}", "model.vocab", "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", "model.vocab", "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":7,\"b\":7},\"merges\":[]}}", "model.vocab", "7"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", "tokenizer.json", "model.merges"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "model.merges", "0 is not a pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "model.merges", "0 is not a pair"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":3}}", "tokenizer.json",
         "byte_fallback"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"content\":\"x\"}]}",
         "added_tokens", "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1}]}",
         "added_tokens", "content"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1,\"content\":"
         "\"x\",\"special\":\"yes\"}]}",
         "tokenizer.json", "special"},
        {"{\"normalizer\":{\"type\":\"Sequence\"}}", "Sequence", "normalizers"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\"}}", "Replace", "pattern"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"x\"}}",
         "/model/tokenizer.json: Replace.pattern", "pattern is not valid"},
        {"{\"normalizer\":{\"type\":\"Prepend\"}}", "Prepend.prepend", "text"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"}}}", "tokenizer.json", "behavior"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":"
         "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}}",
         "post_processor", "doesn't list"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":"
         "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[9]}"
         "}}}",
         "post_processor", "id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("tokenizer.json", cases[i].json);
        check_refused(ODMOE_ERR_FORMAT, cases[i].word, cases[i].word2);
    }
}

static void kinds_that_are_not_known_are_named(void **state)
{
    static const char *const cases[][2] = {
        {"{\"model\":{\"type\":\"WordPiece\"}}", "\"WordPiece\""},
        {"{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix"},
        {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}", "dropout"},
        {"{\"normalizer\":{\"type\":\"Lowercase\"}}", "\"Lowercase\""},
        {"{\"normalizer\":{}}", "normalizer \"\""},
        {"{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}", "\"BertPreTokenizer\""},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Odd\",\"pattern\":{\"String\":\"x\"}}}", "\"Odd\""},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"[a&&b]\"}}}", "&&"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}"
         "}",
         "after ByteLevel"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}}", "U+2581"},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"twice\"}}",
         "\"twice\""},
        {"{\"decoder\":{\"type\":\"WordPiece\"}}", "\"WordPiece\""},
        {"{\"decoder\":{\"type\":\"Strip\",\"content\":\"x\",\"start\":1}}", "\"x\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":\"Odd\"}}",
         "\"Odd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file("tokenizer.json", cases[i][0]);
        check_refused(ODMOE_ERR_UNSUPPORTED, "tokenizer.json", cases[i][1]);
    }
}

static void too_many_steps_are_refused(void **state)
{
    char text[8192] = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}";
    for (int i = 0; i < 40; i++)
        strcat(text, ",{\"type\":\"NFC\"}");
    strcat(text, "]}}");
    put_file("tokenizer.json", text);
    check_refused(ODMOE_ERR_UNSUPPORTED, "tokenizer.json", "normalizers");
}

static void a_folder_without_a_tokenizer_is_told_so(void **state)
{
    folder();
    check_refused(ODMOE_ERR_UNSUPPORTED, "no tokenizer", "tokenizer.json");
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_teardown(f, clean)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_models_type_may_be_left_out),
        IN_FOLDER(merges_may_be_texts_or_pairs),
        IN_FOLDER(added_tokens_json_counts_where_tokenizer_config_lists_none),
        IN_FOLDER(what_the_files_beside_tokenizer_json_contradict_is_refused),
        IN_FOLDER(a_byte_token_that_added_tokens_lists_again_stays_one),
        IN_FOLDER(texts_may_hold_the_character_0),
        IN_FOLDER(a_git_lfs_pointer_is_told_so),
        IN_FOLDER(a_tiktoken_model_merges_by_rank),
        IN_FOLDER(a_tiktoken_model_with_faults_is_refused),
        IN_FOLDER(unigram_takes_the_best_way_through_a_word),
        IN_FOLDER(unigram_with_faults_is_refused),
        IN_FOLDER(end_tokens_are_known_by_name),
        IN_FOLDER(end_tokens_come_from_all_files),
        IN_FOLDER(start_tokens_are_those_of_the_post_processor_unless_the_config_says_otherwise),
        IN_FOLDER(a_normaliser_may_leave_nothing),
        IN_FOLDER(a_normaliser_that_multiplies_a_text_is_refused),
        IN_FOLDER(ids_may_have_gaps),
        IN_FOLDER(broken_files_are_refused_by_field),
        IN_FOLDER(kinds_that_are_not_known_are_named),
        IN_FOLDER(too_many_steps_are_refused),
        IN_FOLDER(a_folder_without_a_tokenizer_is_told_so),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
