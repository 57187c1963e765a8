/* From logits to deltas. A grammar that one text alone meets makes the model say it, so that what becomes of a text can be
 * looked at token by token. */
#include "server_jobs.h"

#define CONTEXT 512

static odmoe_model *model;
static odmoe_grammar_vocab *vocab;
static engine *e;
static odmoe_error err;

static int setup(void **state)
{
    odmoe_options o = demo_options(1, CONTEXT);
    engine_options eo = {.sequences = 1, .context = CONTEXT, .queue = 4};
    model = open_demo(&o);
    e = open_engine(model, &eo);
    return odmoe_grammar_vocab_create(odmoe_model_tokenizer(model), &vocab, &err) ? -1 : 0;
}

static int teardown(void **state)
{
    close_engine(e);
    odmoe_grammar_vocab_free(vocab);
    odmoe_model_close(model);
    return 0;
}

static odmoe_grammar *compile(const char *gbnf, const char *trigger)
{
    odmoe_grammar *g = NULL;
    odmoe_grammar_options o;
    odmoe_grammar_options_init(&o);
    if (trigger) {
        o.triggers = &trigger;
        o.trigger_count = 1;
    }
    if (odmoe_grammar_compile(vocab, ODMOE_GRAMMAR_GBNF, gbnf, strlen(gbnf), &o, &g, NULL, &err))
        fail_msg("%s", err.message);
    return g;
}

/* The grammar whose only text is this one. */
static odmoe_grammar *only(const char *text)
{
    char gbnf[2048], *at = gbnf;
    at += sprintf(at, "root ::= \"");
    for (; *text; text++)
        at += sprintf(at, *text & 0x80 ? "%c" : "\\x%02X", *text);
    sprintf(at, "\"");
    return compile(gbnf, NULL);
}

static const int32_t *prompt(void)
{
    static int32_t ids[16];
    ids_of(model, "Tell me", ids, 16);
    return ids;
}

/* A request whose answer is `text`. */
static job_request saying(const char *text)
{
    job_request r = request_of(prompt(), 2, -1);
    r.grammar = text ? only(text) : NULL;
    return r;
}

static answer run_request(const job_request *r)
{
    static answer a;
    run_job(e, model, r, &a);
    return a;
}

static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":"
                            "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}}}]";
#define CALL(city) "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"" city "\"}}\n</tool_call>"

static void the_answer_is_what_the_grammar_allows_and_ends_with_it(void **state)
{
    job_request r = saying("Hello, you.");
    answer a = run_request(&r);
    assert_string_equal(a.content, "Hello, you.");
    assert_string_equal(a.token_bytes, "Hello, you.");
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
    assert_int_equal(a.n_tokens, a.end.usage.sampled_tokens);
}

static void reasoning_and_content_are_told_apart(void **state)
{
    job_request r = saying("<think>\nWho are you? Let me see.\n</think>\n\nNobody.");
    r.format = "hermes";
    answer a = run_request(&r);
    assert_string_equal(a.reasoning, "Who are you? Let me see.");
    assert_string_equal(a.content, "Nobody.");
    assert_string_equal(a.token_bytes, "Nobody."); /* its tokens alone, not those of the markup */
    const job_usage *u = &a.end.usage;
    assert_in_range(u->reasoning_tokens, 5, u->sampled_tokens - 2);

    r = saying("So it is.</think>Yes");
    r.format = "hermes";
    r.prompt_tail = "<think>\n";
    a = run_request(&r);
    assert_string_equal(a.reasoning, "So it is.");
    assert_string_equal(a.content, "Yes");
}

static void calls_come_whole_and_are_counted(void **state)
{
    job_request r = saying("One moment.\n" CALL("Paris") "\n" CALL("Rome"));
    r.format = "hermes";
    r.tools = tools;
    answer a = run_request(&r);
    assert_string_equal(a.content, "One moment.");
    assert_int_equal(a.calls, 2);
    assert_int_equal(a.end.usage.calls, 2);
    assert_string_equal(a.name, "weather");
    assert_non_null(strstr(a.arguments, "Rome"));
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
}

static void a_call_that_the_limit_cuts_keeps_what_has_come(void **state)
{
    job_request r = saying(CALL("Paris"));
    r.format = "hermes";
    r.tools = tools;
    answer a = run_request(&r);
    assert_int_equal(a.whole, 1);
    assert_int_equal(a.end.usage.calls, 1);
    int32_t all = a.end.usage.sampled_tokens;
    int partial = 0;
    for (int32_t n = 2; n < all - 4; n += 3) {
        r = saying(CALL("Paris"));
        r.format = "hermes";
        r.tools = tools;
        r.max_tokens = n;
        answer cut = run_request(&r);
        assert_int_equal(cut.end.finish, JOB_LENGTH);
        assert_int_equal(cut.end.usage.calls, cut.whole);
        assert_true(!cut.whole || cut.arguments_length == a.arguments_length);
        assert_memory_equal(cut.arguments, a.arguments, cut.arguments_length);
        partial += cut.calls && !cut.whole;
    }
    assert_true(partial > 0);
}

static void one_call_is_enough_where_that_is_asked_for(void **state)
{
    job_request r = saying(CALL("Paris") "\n" CALL("Rome"));
    r.format = "hermes";
    r.tools = tools;
    r.one_call = true;
    answer a = run_request(&r);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.end.usage.calls, 1);
    assert_non_null(strstr(a.arguments, "Paris"));
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
    engine_stats stats;
    engine_stats_get(e, &stats);
    assert_true(stats.finished_calls > 0);
}

static void stop_strings_count_in_the_content_alone(void **state)
{
    const char *const stops[] = {"", "zebra", "end"};
    job_request r = saying("<think>to the end of it</think>A " CALL("Paris the end") "");
    r.format = "hermes";
    r.tools = tools;
    r.stop = stops;
    r.stop_count = 3;
    answer a = run_request(&r);
    assert_string_equal(a.reasoning, "to the end of it");
    assert_string_equal(a.content, "A");
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);

    r = saying("<think>to the end</think>This friendly text ends here, or not");
    r.format = "hermes";
    r.stop = stops;
    r.stop_count = 3;
    a = run_request(&r);
    assert_string_equal(a.content, "This fri");
    assert_string_equal(a.reasoning, "to the end");
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_STRING);
    assert_int_equal(a.end.stop_index, 2);
}

static void what_a_stop_string_held_back_comes_out_at_the_end(void **state)
{
    const char *const stops[] = {"end of all"};
    job_request r = saying("This is the end of");
    r.stop = stops;
    r.stop_count = 1;
    answer a = run_request(&r);
    assert_string_equal(a.content, "This is the end of");
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
    assert_string_equal(a.token_bytes, "This is the end of");
}

static void characters_come_whole_and_broken_ones_are_marked(void **state)
{
    job_request r = saying("\xF0\x9F\xA6\x99 \xC3\xA9t\xC3\xA9"); /* a llama; summer */
    job *j = create_job(model, &r);
    job_event event;
    answer a = {0};
    assert_int_equal(engine_submit(e, j, NULL), ENGINE_TAKEN);
    do {
        assert_int_equal(job_next(j, -1, EVER_MS, &event), JOB_EVENT);
        if (event.kind == JOB_DELTA) /* never the rest of a character */
            assert_int_not_equal((unsigned char)event.delta.text[0] & 0xC0, 0x80);
    } while (!take_event(&a, &event));
    job_free(j);
    assert_string_equal(a.content, "\xF0\x9F\xA6\x99 \xC3\xA9t\xC3\xA9");

    int32_t all = a.end.usage.sampled_tokens;
    int found = 0;
    for (int32_t n = 1; n < all; n++) { /* cut anywhere: at most one mark, at the end */
        r = saying("\xF0\x9F\xA6\x99 \xC3\xA9t\xC3\xA9");
        r.max_tokens = n;
        a = run_request(&r);
        assert_int_equal(a.end.finish, JOB_LENGTH);
        char *mark = strstr(a.content, "\xEF\xBF\xBD");
        if (mark) {
            assert_string_equal(mark, "\xEF\xBF\xBD");
            found++;
        }
    }
    assert_true(found > 0);
}

static void thinking_beyond_its_budget_is_ended_and_the_answer_goes_on(void **state)
{
    for (int budget = 0; budget <= 6; budget += 3) {
        job_request r = request_of(prompt(), 2, 40);
        r.format = "hermes";
        r.prompt_tail = "<think>\n";
        r.thinking_budget = budget;
        r.thinking_end = "\n</think>\n\n";
        r.ignore_eos = true;
        r.grammar = compile("root ::= \"yes.\"", "</think>");
        answer a = run_request(&r);
        assert_string_equal(a.content, "yes.");
        assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
        assert_true(a.reasoning_length > 0 || !budget);
        assert_in_range(a.end.usage.reasoning_tokens, budget, budget ? budget + 12 : 0);
    }
    job_request r = request_of(prompt(), 2, 30); /* no budget: it thinks to the limit */
    r.format = "hermes";
    r.prompt_tail = "<think>\n";
    r.thinking_end = "\n</think>\n\n";
    r.ignore_eos = true;
    answer a = run_request(&r);
    assert_int_equal(a.content_length, 0);
    assert_int_equal(a.end.usage.reasoning_tokens, 30);
    assert_int_equal(a.end.finish, JOB_LENGTH);
}

static void an_end_token_ends_the_text_and_counts(void **state)
{
    job_request r = request_of(prompt(), 2, 8);
    int32_t end = 0;
    while (!odmoe_token_is_end(odmoe_model_tokenizer(model), end))
        end++;
    odmoe_logit_bias bias = {end, 100};
    r.sampling.bias = &bias;
    r.sampling.bias_count = 1;
    answer a = run_request(&r);
    assert_int_equal(a.end.finish, JOB_STOPPED_AT_END);
    assert_int_equal(a.end.usage.sampled_tokens, 1);
    assert_int_equal(a.content_length, 0);
    r.ignore_eos = true;
    a = run_request(&r);
    assert_int_equal(a.end.finish, JOB_LENGTH);
    assert_int_equal(a.end.usage.sampled_tokens, 8);
}

static void log_probabilities_are_those_of_the_raw_logits(void **state)
{
    float *logits = malloc(4096 * sizeof *logits), expected;
    odmoe_logprob best[3];
    odmoe_session *s;
    odmoe_model *own;
    odmoe_options o = demo_options(1, CONTEXT);
    own = open_demo(&o);
    assert_int_equal(odmoe_session_create(own, 0, &s, &err), ODMOE_OK);
    assert_int_equal(odmoe_eval(s, prompt(), 2, logits, &err), ODMOE_OK);
    job_request r = saying("Zz"); /* unlikely, and hot, and punished */
    r.logprobs = 3;
    r.sampling.temperature = 5;
    r.sampling.repeat_penalty = 3;
    job *j = create_job(model, &r);
    job_event event;
    assert_int_equal(engine_submit(e, j, NULL), ENGINE_TAKEN);
    do
        assert_int_equal(job_next(j, -1, EVER_MS, &event), JOB_EVENT);
    while (event.kind != JOB_DELTA);
    assert_true(event.logprob_count >= 1);
    const job_logprob *first = &event.logprobs[0];
    assert_int_equal(odmoe_logprobs(logits, 4096, first->token, &expected, best, 3, &err), ODMOE_OK);
    assert_memory_equal(&first->logprob, &expected, sizeof expected);
    assert_memory_equal(first->best, best, sizeof best);
    assert_int_equal(first->bytes[0], 'Z');
    job_free(j);
    odmoe_session_free(s);
    odmoe_model_close(own);
    free(logits);
}

static void where_no_token_is_possible_the_job_fails_alone(void **state)
{
    odmoe_grammar *g = NULL; /* without a vocabulary there are no masks */
    assert_int_equal(odmoe_grammar_compile(NULL, ODMOE_GRAMMAR_GBNF, "root ::= \"a\"", 12, NULL, &g, NULL, &err),
                     ODMOE_OK);
    job_request r = request_of(prompt(), 2, 5);
    r.grammar = g;
    answer a = run_request(&r);
    assert_int_equal(a.end.finish, JOB_FAILED);
    assert_int_equal(a.end.error.code, ODMOE_ERR_STATE);
    assert_true(strlen(a.end.error.message) > 0);
    r = saying("Still here.");
    a = run_request(&r);
    assert_string_equal(a.content, "Still here.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_what_the_grammar_allows_and_ends_with_it),
        cmocka_unit_test(reasoning_and_content_are_told_apart),
        cmocka_unit_test(calls_come_whole_and_are_counted),
        cmocka_unit_test(a_call_that_the_limit_cuts_keeps_what_has_come),
        cmocka_unit_test(one_call_is_enough_where_that_is_asked_for),
        cmocka_unit_test(stop_strings_count_in_the_content_alone),
        cmocka_unit_test(what_a_stop_string_held_back_comes_out_at_the_end),
        cmocka_unit_test(characters_come_whole_and_broken_ones_are_marked),
        cmocka_unit_test(thinking_beyond_its_budget_is_ended_and_the_answer_goes_on),
        cmocka_unit_test(an_end_token_ends_the_text_and_counts),
        cmocka_unit_test(log_probabilities_are_those_of_the_raw_logits),
        cmocka_unit_test(where_no_token_is_possible_the_job_fails_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
