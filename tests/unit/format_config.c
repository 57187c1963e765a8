/* config.json and its like: kinds, ranges, hostile JSON, and the position encoding in both spellings. */
#include "format_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/config.h"

static odmoe_error err;

static odmoe_status read_text(const char *text, json_t **root)
{
    *root = NULL;
    memset(&err, 0, sizeof err);
    save_text(temp_path("config.json"), text);
    return config_read(temp_path("."), "config.json", 1 << 20, false, root, &err);
}

static config_object object(const char *text)
{
    json_t *root;
    if (read_text(text, &root))
        fail_msg("%s", err.message);
    return (config_object){root, "config.json"};
}

static void drop(config_object c)
{
    json_decref((json_t *)c.object);
}

/* ---- the file --------------------------------------------------------------------------------------------- */

static void a_missing_file_is_an_error_unless_it_is_optional(void **state)
{
    json_t *root = (json_t *)&err;
    assert_error(&err, config_read(temp_path("."), "none.json", 100, false, &root, &err), ODMOE_ERR_IO, "none.json",
                 "cannot open");
    assert_int_equal(config_read(temp_path("."), "none.json", 100, true, &root, &err), ODMOE_OK);
    assert_null(root);
}

static void a_file_above_the_callers_limit_is_refused(void **state)
{
    json_t *root;
    save_text(temp_path("config.json"), "{\"a\": 1}");
    assert_int_equal(config_read(temp_path("."), "config.json", 8, false, &root, &err), ODMOE_OK);
    json_decref(root);
    assert_error(&err, config_read(temp_path("."), "config.json", 7, false, &root, &err), ODMOE_ERR_FORMAT,
                 "config.json", "has 8 bytes, at most 7");
}

static void malformed_json_is_an_error_with_file_and_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "line 1"},
                 {"{\n\"a\": 1,\n}", "line 3"},
                 {"{\"a\": 1} {}", "line 1"},
                 {"{\"a\": 1, \"a\": 2}", "duplicate"},
                 {"{\"a\": 09223372036854775808}", "line 1"},
                 {"{\"a\": b9223372036854775808}", "line 1"},
                 {"{\"a\": +9223372036854775808}", "line 1"},
                 {"{\"a\": 9223372036854775808", "line 1"},
                 {"{\"a\": 1e999}", "real number overflow"},
                 {"{\"a\": \"\xff\"}", "byte 0xff"},
                 {"{\"a\": \"\\ud800\"}", "Unicode"},
                 {"{\"a\": 'b'}", "line 1"},
                 {"{\"a\": Inf}", "line 1"},
                 {"{\"a\": Na", "line 1"},
                 {"{\"a\": \"Infinity", "line 1"},
                 {"{\"a\": \"\\", "line 1"},
                 {"[1]", "not a JSON object"},
                 {"\xef\xbb\xbf{}", "line 1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *root;
        assert_error(&err, read_text(cases[i].text, &root), ODMOE_ERR_FORMAT, "config.json", cases[i].says);
        assert_null(root);
    }
}

static void nesting_deeper_than_64_is_refused(void **state)
{
    static const struct {
        int depth;
        odmoe_status status;
    } cases[] = {{62, ODMOE_OK}, {63, ODMOE_OK}, {64, ODMOE_ERR_FORMAT}, {1000000, ODMOE_ERR_FORMAT}};
    for (size_t i = 0; i < 4; i++) {
        size_t n = (size_t)cases[i].depth;
        json_t *root = NULL;
        char *text = malloc(2 * n + 20);
        assert_non_null(text);
        strcpy(text, "{\"[[[[\":");
        memset(text + 8, '[', n);
        memset(text + 8 + n, ']', n);
        strcpy(text + 8 + 2 * n, "}");
        save_text(temp_path("deep.json"), text);
        free(text);
        odmoe_status status = config_read(temp_path("."), "deep.json", 1 << 22, false, &root, &err);
        assert_int_equal(status, cases[i].status);
        if (status)
            assert_error(&err, status, ODMOE_ERR_FORMAT, "deep.json", "deeper than 64");
        json_decref(root);
    }
}

/* 9 MB of text would become 700 MB of tree. */
static void more_values_than_memory_is_taken_for_are_refused(void **state)
{
    size_t count = 3000000;
    char *text = malloc(3 * count + 20), *at;
    json_t *root = NULL;
    assert_non_null(text);
    at = stpcpy(text, "{\"x\":[");
    for (size_t i = 0; i < count; i++, at += 3)
        memcpy(at, "{},", 3);
    strcpy(at, "0]}");
    save_text(temp_path("wide.json"), text);
    free(text);
    odmoe_status status = config_read(temp_path("."), "wide.json", 1 << 24, false, &root, &err);
    assert_error(&err, status, ODMOE_ERR_FORMAT, "wide.json: has 6000003 values", "at most 4668442");
    assert_null(root);
}

static void a_folder_or_fifo_is_refused_without_waiting(void **state)
{
    json_t *root;
    mkdir(temp_path("folder.json"), 0700);
    mkfifo(temp_path("fifo.json"), 0600);
    assert_error(&err, config_read(temp_path("."), "folder.json", 100, true, &root, &err), ODMOE_ERR_IO, "folder.json",
                 "is a folder");
    assert_error(&err, config_read(temp_path("."), "fifo.json", 100, true, &root, &err), ODMOE_ERR_IO, "fifo.json",
                 "not a regular file");
}

/* ---- members ---------------------------------------------------------------------------------------------- */

static void members_of_each_kind_are_read(void **state)
{
    config_object c = object("{\"i\": -5, \"r\": 2.5, \"whole\": 4096.0, \"t\": \"text\", \"b\": true}");
    int64_t i;
    double r;
    bool b;
    const char *t;
    assert_int_equal(config_int(c, "i", true, -5, 5, 0, &i, &err), ODMOE_OK);
    assert_int_equal(i, -5);
    assert_int_equal(config_int(c, "whole", true, 0, 1 << 20, 0, &i, &err), ODMOE_OK);
    assert_int_equal(i, 4096);
    assert_int_equal(config_float(c, "r", true, 0, 10, 0, &r, &err), ODMOE_OK);
    assert_true(r == 2.5);
    assert_int_equal(config_float(c, "i", true, -10, 10, 0, &r, &err), ODMOE_OK);
    assert_true(r == -5);
    assert_int_equal(config_bool(c, "b", true, false, &b, &err), ODMOE_OK);
    assert_true(b);
    assert_int_equal(config_text(c, "t", true, NULL, &t, &err), ODMOE_OK);
    assert_string_equal(t, "text");
    drop(c);
}

static void missing_and_null_members_take_the_fallback_or_are_an_error(void **state)
{
    config_object c = object("{\"none\": null}");
    static const char *const keys[] = {"none", "missing"};
    for (int k = 0; k < 2; k++) {
        int64_t i = 0;
        double r = 0;
        bool b = false;
        const char *t = NULL;
        config_object part = c;
        assert_int_equal(config_int(c, keys[k], false, 0, 1, 77, &i, &err), ODMOE_OK);
        assert_int_equal(i, 77);
        assert_int_equal(config_float(c, keys[k], false, 0, 1, 7.5, &r, &err), ODMOE_OK);
        assert_true(r == 7.5);
        assert_int_equal(config_bool(c, keys[k], false, true, &b, &err), ODMOE_OK);
        assert_true(b);
        assert_int_equal(config_text(c, keys[k], false, "fallback", &t, &err), ODMOE_OK);
        assert_string_equal(t, "fallback");
        assert_int_equal(config_part(c, keys[k], &part, &err), ODMOE_OK);
        assert_null(part.object);
        assert_int_equal(config_int(part, "x", false, 0, 1, 5, &i, &err), ODMOE_OK);
        assert_int_equal(i, 5);
        assert_error(&err, config_int(c, keys[k], true, 0, 1, 0, &i, &err), ODMOE_ERR_FORMAT, "config.json", keys[k]);
        assert_error(&err, config_float(c, keys[k], true, 0, 1, 0, &r, &err), ODMOE_ERR_FORMAT, "missing", keys[k]);
        assert_error(&err, config_bool(c, keys[k], true, 0, &b, &err), ODMOE_ERR_FORMAT, "missing", keys[k]);
        assert_error(&err, config_text(c, keys[k], true, NULL, &t, &err), ODMOE_ERR_FORMAT, "missing", keys[k]);
    }
    drop(c);
}

static void a_member_of_another_kind_is_an_error_that_names_it(void **state)
{
    config_object c = object("{\"t\": \"5\", \"r\": 2.5, \"b\": false, \"i\": 1, \"big\": 1e300, \"a\": [1]}");
    int64_t i;
    double r;
    bool b;
    const char *t;
    config_object part;
    assert_error(&err, config_int(c, "t", true, 0, 9, 0, &i, &err), ODMOE_ERR_FORMAT, "'t'", "an integer");
    assert_error(&err, config_int(c, "r", true, 0, 9, 0, &i, &err), ODMOE_ERR_FORMAT, "'r'", "an integer");
    assert_error(&err, config_int(c, "b", true, 0, 9, 0, &i, &err), ODMOE_ERR_FORMAT, "'b'", "an integer");
    assert_error(&err, config_int(c, "big", true, 0, INT64_MAX, 0, &i, &err), ODMOE_ERR_FORMAT, "'big'", "an integer");
    assert_error(&err, config_int(c, "a", false, 0, 9, 0, &i, &err), ODMOE_ERR_FORMAT, "'a'", "an integer");
    assert_error(&err, config_float(c, "t", true, 0, 9, 0, &r, &err), ODMOE_ERR_FORMAT, "'t'", "number");
    assert_error(&err, config_bool(c, "i", false, true, &b, &err), ODMOE_ERR_FORMAT, "'i'", "true or false");
    assert_error(&err, config_text(c, "i", false, NULL, &t, &err), ODMOE_ERR_FORMAT, "'i'", "a text");
    assert_error(&err, config_part(c, "a", &part, &err), ODMOE_ERR_FORMAT, "'a'", "an object");
    drop(c);
}

static void a_number_out_of_its_range_is_an_error_with_the_range(void **state)
{
    config_object c = object("{\"i\": 9223372036854775807, \"r\": -0.5}");
    int64_t i;
    double r;
    assert_error(&err, config_int(c, "i", true, 1, 1 << 20, 0, &i, &err), ODMOE_ERR_FORMAT,
                 "'i' is 9223372036854775807", "1 to 1048576");
    assert_error(&err, config_float(c, "r", true, 0, 1, 0, &r, &err), ODMOE_ERR_FORMAT, "'r' is -0.5", "0 to 1");
    drop(c);
}

static void nan_and_infinity_do_not_spoil_a_file_but_are_no_numbers(void **state)
{
    config_object c = object("{\"n\": NaN, \"p\": Infinity, \"m\": [-Infinity, NaN], \"q\": -Infinity,"
                             " \"text\": \"NaN \\\" Infinity\", \"good\": 3}");
    static const char *const keys[] = {"n", "p", "q"};
    int64_t i;
    double r;
    const char *t;
    for (int k = 0; k < 3; k++) {
        assert_error(&err, config_float(c, keys[k], false, -INFINITY, INFINITY, 0, &r, &err), ODMOE_ERR_FORMAT, keys[k],
                     "a finite number");
        assert_error(&err, config_int(c, keys[k], false, 0, 1, 0, &i, &err), ODMOE_ERR_FORMAT, keys[k], "an integer");
    }
    assert_int_equal(config_text(c, "text", true, NULL, &t, &err), ODMOE_OK);
    assert_string_equal(t, "NaN \" Infinity");
    assert_int_equal(config_int(c, "good", true, 0, 9, 0, &i, &err), ODMOE_OK);
    drop(c);
}

static void an_integer_beyond_64_bits_does_not_spoil_a_file_but_is_no_number(void **state)
{
    /* The first is int(1e30), which transformers writes where a tokenizer has no limit. */
    config_object c = object("{\"n\": 1000000000000000019884624838656, \"p\":9223372036854775808, \"m\": "
                             "[-9223372036854775809,1], \"text\": \"9223372036854775808\", \"real\": "
                             "9223372036854775808.5, \"max\": 9223372036854775807, \"min\": -9223372036854775808}");
    static const char *const keys[] = {"n", "p"};
    int64_t i;
    double r;
    const char *t;
    for (int k = 0; k < 2; k++) {
        assert_error(&err, config_int(c, keys[k], false, 0, 1, 0, &i, &err), ODMOE_ERR_FORMAT, keys[k], "an integer");
        assert_error(&err, config_float(c, keys[k], false, 0, 1e300, 0, &r, &err), ODMOE_ERR_FORMAT, keys[k], "number");
    }
    assert_int_equal(config_text(c, "text", true, NULL, &t, &err), ODMOE_OK);
    assert_string_equal(t, "9223372036854775808");
    assert_int_equal(config_float(c, "real", true, 9e18, 1e19, 0, &r, &err), ODMOE_OK);
    assert_int_equal(config_int(c, "max", true, INT64_MIN, INT64_MAX, 0, &i, &err), ODMOE_OK);
    assert_true(i == INT64_MAX);
    assert_int_equal(config_int(c, "min", true, INT64_MIN, INT64_MAX, 0, &i, &err), ODMOE_OK);
    assert_true(i == INT64_MIN);
    drop(c);
}

/* ---- position encoding ------------------------------------------------------------------------------------ */

static rope_config rope(const char *text)
{
    rope_config r;
    config_object c = object(text);
    if (config_rope(c, 10000, 512, &r, &err))
        fail_msg("%s: %s", text, err.message);
    drop(c);
    return r;
}

static void assert_same_rope(const char *text, const char *other)
{
    rope_config a = rope(text), b = rope(other);
    assert_true(a.theta == b.theta && a.scaling == b.scaling && a.factor == b.factor);
    assert_true(a.original_context == b.original_context && a.attention_factor == b.attention_factor);
    assert_true(a.beta_fast == b.beta_fast && a.beta_slow == b.beta_slow && a.truncate == b.truncate);
}

static void without_rope_fields_the_familys_default_holds(void **state)
{
    rope_config r = rope("{\"rope_scaling\": null}");
    assert_true(r.theta == 10000 && r.scaling == ROPE_NONE && r.factor == 1);
}

static void transformers_4_and_5_spell_the_same_thing(void **state)
{
    assert_same_rope("{\"rope_theta\": 1e6, \"rope_scaling\": null}",
                     "{\"rope_parameters\": {\"rope_theta\": 1000000, \"rope_type\": \"default\"}}");
    assert_same_rope("{\"rope_scaling\": {}, \"rope_parameters\": {\"rope_theta\": 1e6}}",
                     "{\"rope_parameters\": {\"rope_theta\": 1e6}}");
    assert_same_rope("{\"rope_theta\": 10000.0, \"rope_scaling\": {\"factor\": 2.0, \"type\": \"linear\"}}",
                     "{\"rope_parameters\": {\"rope_theta\": 10000, \"rope_type\": \"linear\", \"factor\": 2}}");
    assert_same_rope("{\"rope_theta\": 5e5, \"rope_scaling\": {\"factor\": 4.0, \"rope_type\": \"yarn\","
                     " \"original_max_position_embeddings\": 16}}",
                     "{\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"yarn\", \"factor\": 4,"
                     " \"original_max_position_embeddings\": 16}}");
}

static void linear_scaling_has_its_factor(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}}");
    assert_int_equal(r.scaling, ROPE_LINEAR);
    assert_true(r.factor == 2.5);
}

static void yarn_has_its_defaults(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}");
    assert_int_equal(r.scaling, ROPE_YARN);
    assert_true(r.factor == 4 && r.original_context == 512 && r.beta_fast == 32 && r.beta_slow == 1);
    assert_true(r.attention_factor == 0 && r.truncate);
}

static void yarn_takes_what_the_file_says(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8, \"beta_fast\": 16, \"beta_slow\":"
                         " 2, \"attention_factor\": 1.25, \"original_max_position_embeddings\": 64.0,"
                         " \"truncate\": false}}");
    assert_true(r.factor == 8 && r.original_context == 64 && r.beta_fast == 16 && r.beta_slow == 2);
    assert_true(r.attention_factor == 1.25 && !r.truncate);
}

static void yarn_without_a_factor_stretches_to_the_models_context(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"rope_type\": \"yarn\", \"original_max_position_embeddings\": 128}}");
    assert_true(r.factor == 4);
}

static void yarns_original_context_beside_the_scaling_goes_before_the_one_in_it(void **state)
{
    rope_config r = rope("{\"original_max_position_embeddings\": 64, \"rope_scaling\": {\"rope_type\": \"yarn\","
                         " \"original_max_position_embeddings\": 128}}");
    assert_true(r.original_context == 64 && r.factor == 8);
    r = rope("{\"original_max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": \"yarn\"}}");
    assert_true(r.original_context == 64 && r.factor == 8);
}

static void yarns_mscale_pair_gives_the_attention_factor(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 0.707,"
                         " \"mscale_all_dim\": 1.0}}");
    double expected = (0.0707 * log(40) + 1) / (0.1 * log(40) + 1);
    assert_true(fabs(r.attention_factor - expected) < 1e-12);
    assert_true(rope("{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 1.0,"
                     " \"mscale_all_dim\": 1.0}}")
                    .attention_factor == 1);
}

static void rope_type_goes_before_type(void **state)
{
    assert_int_equal(
        rope("{\"rope_scaling\": {\"type\": \"dynamic\", \"rope_type\": \"linear\", \"factor\": 2}}").scaling,
        ROPE_LINEAR);
}

static void llama_3_says_how_many_turns_are_few_and_many(void **state)
{
    rope_config r = rope("{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
                         " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}");
    assert_int_equal(r.scaling, ROPE_LLAMA3);
    assert_true(r.factor == 8 && r.original_context == 64 && r.beta_slow == 1 && r.beta_fast == 4);
}

static void longrope_has_a_scale_for_either_list(void **state)
{
    rope_config r =
        rope("{\"original_max_position_embeddings\": 64, \"rope_scaling\": {\"type\": \"longrope\","
             " \"short_mscale\": 1.25, \"long_mscale\": 1.5, \"short_factor\": [1], \"long_factor\": [2]}}");
    assert_int_equal(r.scaling, ROPE_LONG);
    assert_true(r.original_context == 64 && r.factor == 8);
    assert_true(r.attention_factor == 1.25 && r.long_attention == 1.5);
    r = rope("{\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 4, \"attention_factor\": 2}}");
    assert_true(r.factor == 4 && r.attention_factor == 2 && r.long_attention == 2);
    r = rope("{\"rope_scaling\": {\"type\": \"longrope\"}}");
    assert_true(r.factor == 1 && r.attention_factor == 0 && r.long_attention == 0);
}

static void layers_that_turn_in_several_ways_are_read_by_their_type(void **state)
{
    config_object c = object("{\"rope_parameters\": {\"full\": {\"rope_type\": \"proportional\", \"rope_theta\": 1e6,"
                             " \"partial_rotary_factor\": 0.25}, \"sliding\": {\"rope_theta\": 1e4}}}");
    rope_config r;
    assert_int_equal(config_rope_of(c, "full", 5, 512, &r, &err), ODMOE_OK);
    assert_true(r.scaling == ROPE_PROPORTIONAL && r.theta == 1e6 && r.part == 0.25 && r.factor == 1);
    assert_int_equal(config_rope_of(c, "sliding", 5, 512, &r, &err), ODMOE_OK);
    assert_true(r.scaling == ROPE_NONE && r.theta == 1e4);
    assert_error(&err, config_rope_of(c, "linear", 5, 512, &r, &err), ODMOE_ERR_FORMAT, "'rope_parameters'",
                 "'linear'");
    drop(c);
    c = object("{\"rope_parameters\": {\"full\": 3, \"rope_theta\": 1e6}}");
    assert_error(&err, config_rope_of(c, "full", 5, 512, &r, &err), ODMOE_ERR_FORMAT, "'full'", "object");
    assert_error(&err, config_rope_of(c, "sliding", 5, 512, &r, &err), ODMOE_ERR_FORMAT, "'rope_parameters'",
                 "'sliding'");
    drop(c);
    c = object("{}");
    assert_int_equal(config_rope_of(c, "full", 5, 512, &r, &err), ODMOE_OK);
    assert_true(r.scaling == ROPE_NONE && r.theta == 5);
    drop(c);
}

static void a_list_of_numbers_is_read_whole_or_not_at_all(void **state)
{
    config_object c = object("{\"good\": [1, 2.5, 1e3], \"none\": null, \"empty\": [], \"text\": [1, \"2\"],"
                             " \"low\": [1, 0], \"huge\": [1e300], \"number\": 3}");
    float *list;
    int n;
    assert_int_equal(config_numbers(c, "good", 0.5, 1e4, &list, &n, &err), ODMOE_OK);
    assert_int_equal(n, 3);
    assert_true(list[0] == 1 && list[1] == 2.5f && list[2] == 1000);
    free(list);
    static const char *const missing[] = {"none", "nowhere"}, *const wrong[] = {"empty", "text", "low", "huge",
                                                                                "number"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(config_numbers(c, missing[i], 0.5, 1e4, &list, &n, &err), ODMOE_OK);
        assert_true(!list && !n);
    }
    for (int i = 0; i < 5; i++)
        assert_error(&err, config_numbers(c, wrong[i], 0.5, 1e4, &list, &n, &err), ODMOE_ERR_FORMAT, "config.json",
                     wrong[i]);
    drop(c);
}

static void an_unknown_scaling_is_named_as_unsupported(void **state)
{
    rope_config r;
    config_object c = object("{\"rope_scaling\": {\"rope_type\": \"axial\", \"factor\": 2}}");
    assert_error(&err, config_rope(c, 1e4, 512, &r, &err), ODMOE_ERR_UNSUPPORTED, "config.json", "'axial'");
    drop(c);
    c = object("{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}");
    assert_error(&err, config_rope(c, 1e4, 512, &r, &err), ODMOE_ERR_UNSUPPORTED, "'rope_parameters'",
                 "'full_attention'");
    drop(c);
}

static void rope_numbers_out_of_range_are_errors(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"rope_theta\": 0}", "'rope_theta'"},
        {"{\"rope_theta\": -10000}", "'rope_theta'"},
        {"{\"rope_theta\": NaN}", "'rope_theta'"},
        {"{\"rope_theta\": 1e300}", "'rope_theta'"},
        {"{\"rope_theta\": \"1e4\"}", "'rope_theta'"},
        {"{\"rope_parameters\": {\"rope_theta\": []}}", "'rope_theta'"},
        {"{\"rope_scaling\": 2}", "'rope_scaling'"},
        {"{\"rope_scaling\": {\"type\": 2}}", "'type'"},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", "'factor'"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "'factor'"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}}", "'factor'"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": Infinity}}", "'factor'"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 1e9}}", "'factor'"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 0}}",
         "'original"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 1e12}}",
         "'original"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 0}}", "'beta_fast'"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"attention_factor\": -1}}", "'attention_factor'"},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"truncate\": 1}}", "'truncate'"},
        {"{\"rope_scaling\": {\"type\": \"proportional\", \"partial_rotary_factor\": 1.5}}", "'partial_rotary_factor'"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"high_freq_factor\": 4}}", "'low_freq_factor'"},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
         " \"high_freq_factor\": 1}}",
         "'high_freq_factor'"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"short_mscale\": 0}}", "'short_mscale'"},
        {"{\"rope_scaling\": {\"type\": \"longrope\", \"long_mscale\": NaN}}", "'long_mscale'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rope_config r;
        config_object c = object(cases[i].text);
        assert_error(&err, config_rope(c, 1e4, 512, &r, &err), ODMOE_ERR_FORMAT, "config.json", cases[i].says);
        drop(c);
    }
}

static void the_golden_models_configs_are_read(void **state)
{
    static const struct {
        const char *model;
        rope_scaling scaling;
        double theta, factor;
    } models[] = {{"models/mixtral", ROPE_NONE, 1e6, 1},       {"models/olmoe_linear", ROPE_LINEAR, 1e4, 2},
                  {"models/olmoe_tied", ROPE_NONE, 1e4, 1},    {"models/qwen3_moe_yarn", ROPE_YARN, 1e6, 4},
                  {"models/qwen3_moe_f16", ROPE_NONE, 1e6, 1}, {"demo-hf", ROPE_NONE, 1e4, 1}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        json_t *root;
        rope_config r;
        int64_t context;
        assert_int_equal(config_read(data_path(models[i].model), "config.json", 1 << 20, false, &root, &err), ODMOE_OK);
        config_object c = {root, "config.json"};
        assert_int_equal(config_int(c, "max_position_embeddings", true, 1, 1 << 24, 0, &context, &err), ODMOE_OK);
        assert_int_equal(config_rope(c, 10000, context, &r, &err), ODMOE_OK);
        assert_int_equal(r.scaling, models[i].scaling);
        assert_true(r.theta == models[i].theta && r.factor == models[i].factor);
        json_decref(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_file_is_an_error_unless_it_is_optional),
        cmocka_unit_test(a_file_above_the_callers_limit_is_refused),
        cmocka_unit_test(malformed_json_is_an_error_with_file_and_line),
        cmocka_unit_test(nesting_deeper_than_64_is_refused),
        cmocka_unit_test(more_values_than_memory_is_taken_for_are_refused),
        cmocka_unit_test(a_folder_or_fifo_is_refused_without_waiting),
        cmocka_unit_test(members_of_each_kind_are_read),
        cmocka_unit_test(missing_and_null_members_take_the_fallback_or_are_an_error),
        cmocka_unit_test(a_member_of_another_kind_is_an_error_that_names_it),
        cmocka_unit_test(a_number_out_of_its_range_is_an_error_with_the_range),
        cmocka_unit_test(nan_and_infinity_do_not_spoil_a_file_but_are_no_numbers),
        cmocka_unit_test(an_integer_beyond_64_bits_does_not_spoil_a_file_but_is_no_number),
        cmocka_unit_test(without_rope_fields_the_familys_default_holds),
        cmocka_unit_test(transformers_4_and_5_spell_the_same_thing),
        cmocka_unit_test(linear_scaling_has_its_factor),
        cmocka_unit_test(yarn_has_its_defaults),
        cmocka_unit_test(yarn_takes_what_the_file_says),
        cmocka_unit_test(yarn_without_a_factor_stretches_to_the_models_context),
        cmocka_unit_test(yarns_original_context_beside_the_scaling_goes_before_the_one_in_it),
        cmocka_unit_test(yarns_mscale_pair_gives_the_attention_factor),
        cmocka_unit_test(rope_type_goes_before_type),
        cmocka_unit_test(llama_3_says_how_many_turns_are_few_and_many),
        cmocka_unit_test(longrope_has_a_scale_for_either_list),
        cmocka_unit_test(layers_that_turn_in_several_ways_are_read_by_their_type),
        cmocka_unit_test(a_list_of_numbers_is_read_whole_or_not_at_all),
        cmocka_unit_test(an_unknown_scaling_is_named_as_unsupported),
        cmocka_unit_test(rope_numbers_out_of_range_are_errors),
        cmocka_unit_test(the_golden_models_configs_are_read),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
