/* The server's routes without sockets: requests made by hand over the demo model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/serve.h"

#define SEA "\"messages\":[{\"role\":\"user\",\"content\":\"Tell me about the sea.\"}]"

static serve_options options;
static server the_server;

/* "name: value" pairs of a request; NULL ends them. */
static const char *header(const http_request *request, const char *name)
{
    for (const char *const *h = request->user; h && *h; h += 2)
        if (!strcasecmp(h[0], name))
            return h[1];
    return NULL;
}

static http_request request_of(const char *method, const char *path, const char *const *headers)
{
    return (http_request){
        .method = method, .path = path, .id = "req_test", .socket = -1, .header = header, .user = (void *)headers};
}

/* Ask, and take a stream's bytes into reply->body. */
static void ask_with(const char *method, const char *path, const char *const *headers, const char *body,
                     http_reply *reply)
{
    http_request r = request_of(method, path, headers);
    *reply = (http_reply){0};
    if (http_access(&the_server, &r, reply))
        http_route(&the_server, &r, body, strlen(body), reply);
    json_decref(r.json);
    r.json = NULL;
    if (reply->stream.next) {
        stream_step step = STREAM_MORE;
        while (step == STREAM_MORE) {
            buffer piece = {0};
            step = http_stream_next(reply, &piece);
            buffer_add(&reply->body, piece.data, piece.length);
            buffer_free(&piece);
        }
        reply->stream.free(reply->stream.user);
        reply->stream = (http_stream){0};
    }
}

static const char *header_of(const http_reply *reply, const char *name)
{
    for (int i = 0; i < reply->header_count; i++)
        if (!strcasecmp(reply->headers[i].name, name))
            return reply->headers[i].value;
    return "";
}

static void expect(const char *method, const char *path, const char *body, int status, const char *in_body)
{
    http_reply reply;
    ask_with(method, path, NULL, body, &reply);
    const char *text = reply.fixed ? reply.fixed : reply.body.data ? reply.body.data : "";
    if (reply.status != status || !strstr(text, in_body))
        fail_msg("%s %s %s: %d %s", method, path, body, reply.status, text);
    http_reply_free(&reply);
}

static void paths_lead_to_routes(void **state)
{
    expect("GET", "/health", "", 200, "\"ok\"");
    expect("HEAD", "/v1/health", "", 200, "ok");
    expect("GET", "/models", "", 200, "\"has_more\":false");
    expect("GET", "/v1/models/demo", "", 200, "\"owned_by\":\"odmoe\"");
    expect("GET", "/v1/models/other", "", 404, "model_not_found");
    expect("GET", "/v1/nothing", "", 404, "\"not_found\"");
    expect("PUT", "/v1/chat/completions", "{}", 405, "method_not_allowed");
    expect("POST", "/v1/embeddings", "", 501, "not_supported");
    expect("POST", "/v1/audio/speech", "", 501, "not_supported");
    expect("POST", "/chat/completions", "{" SEA ",\"max_tokens\":1}", 200, "chat.completion");
}

static void fields_are_checked_by_their_paths(void **state)
{
    static const char *const wrong[][2] = {
        {"\"temperature\":\"hot\"", "\"param\":\"temperature\""},
        {"\"top_k\":1.5", "\"param\":\"top_k\""},
        {"\"seed\":99999999999999999999", "\"code\":\"invalid_value\""},
        {"\"guided_regex\":\"a\"", "\"param\":\"guided_regex\""},
        {"\"guided_decoding_backend\":\"x\"", "\"param\":\"guided_decoding_backend\""},
        {"\"stop\":[\"a\",5]", "\"param\":\"stop\""},
        {"\"n\":2", "\"param\":\"n\""},
        {"\"logit_bias\":{\"99999999\":1}", "\"param\":\"logit_bias\""},
        {"\"stream_options\":{\"include_usage\":1}", "\"param\":\"stream_options.include_usage\""},
        {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"not\":{}}}}",
         "\"param\":\"response_format.json_schema.schema.not\""},
        {"\"grammar\":\"root ::= [\"", "\"invalid_grammar\""},
        {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{"
         "\"properties\":{"
         "\"a\":{\"multipleOf\":7}}}}}]",
         "\"param\":\"tools[0].function.parameters.properties.a.multipleOf\""},
        {"\"tool_choice\":\"required\"", "\"param\":\"tool_choice\""},
    };
    char body[512];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(body, sizeof body, "{" SEA ",\"max_tokens\":1,%s}", wrong[i][0]);
        expect("POST", "/v1/chat/completions", body, 400, wrong[i][1]);
    }
    expect("POST", "/v1/chat/completions",
           "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400,
           "messages[0].content[0].type");
    expect("POST", "/v1/chat/completions",
           "{" SEA ",\"max_tokens\":2.0,\"temperature\":null,\"seed\":null,\"unknown\":{\"x\":1}}", 200, "\"usage\"");
}

static void what_is_no_object_is_refused(void **state)
{
    static const char *const bodies[] = {
        "", "[]", "{\"a\":1} x", "{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\u0000\"}", "{'a':1}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        expect("POST", "/v1/chat/completions", bodies[i], 400, "invalid_json");
    char deep[2 * 300 + 1];
    memset(deep, '[', 300);
    memset(deep + 300, ']', 300);
    deep[600] = 0;
    expect("POST", "/v1/chat/completions", deep, 400, "levels deep");
}

/* The text of a stream is that of an answer; its last event is [DONE]. */
static void a_stream_ends_with_done(void **state)
{
    http_reply reply;
    ask_with("POST", "/v1/chat/completions", NULL,
             "{" SEA ",\"max_tokens\":5,\"stream\":true,\"stream_options\":{\"include_usage\":true}}", &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.type, "text/event-stream; charset=utf-8");
    const char *text = reply.body.data;
    assert_memory_equal(text, "data: {", 7);
    assert_non_null(strstr(text, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"));
    assert_non_null(strstr(text, "\"choices\":[],\"usage\":{"));
    assert_string_equal(text + reply.body.length - strlen("data: [DONE]\n\n"), "data: [DONE]\n\n");
    http_reply_free(&reply);
}

/* The last event of a stream, and how often `event` is in it. */
static void expect_events(const char *path, const char *body, const char *event, int count, const char *last)
{
    http_reply reply;
    int seen = 0;
    ask_with("POST", path, NULL, body, &reply);
    assert_int_equal(reply.status, 200);
    const char *at = reply.body.data, *name = "";
    while ((at = strstr(at, "event: "))) {
        name = at += strlen("event: ");
        seen += !strncmp(name, event, strlen(event)) && name[strlen(event)] == '\n';
    }
    assert_int_equal(seen, count);
    assert_int_equal(strncmp(name, last, strlen(last)), 0);
    http_reply_free(&reply);
}

static void messages_are_anthropic_s(void **state)
{
    expect("POST", "/v1/messages", "{" SEA ",\"max_tokens\":2}", 200, "\"stop_reason\":\"max_tokens\"");
    expect("POST", "/messages", "{\"messages\":[]}", 400, "\"request_id\":\"req_test\"");
    expect("POST", "/v1/messages", "{" SEA ",\"container\":\"x\"}", 400, "container");
    expect("POST", "/v1/messages", "{" SEA ",\"tool_choice\":{\"type\":\"any\"}}", 400, "tool_choice");
    expect("POST", "/v1/messages",
           "{" SEA ",\"tools\":[{\"name\":\"f\",\"strict\":true,\"input_schema\":{\"properties\":{\"a\":{"
           "\"multipleOf\":7}}}}]}",
           400, "multipleOf");
    expect_events("/v1/messages", "{" SEA ",\"max_tokens\":3,\"stream\":true}", "message_start", 1, "message_stop\n");
}

/* The block that changes with every request is no part of the prompt. */
static void the_billing_block_is_left_out(void **state)
{
    http_reply with, without;
    ask_with("POST", "/v1/messages/count_tokens", NULL,
             "{" SEA ",\"system\":[{\"type\":\"text\",\"text\":\"x-anthropic-billing-header: cch=1;\"},"
             "{\"type\":\"text\",\"text\":\"Be brief.\"}]}",
             &with);
    ask_with("POST", "/v1/messages/count_tokens", NULL, "{" SEA ",\"system\":\"Be brief.\"}", &without);
    assert_int_equal(with.status, 200);
    assert_int_equal(with.body.length, without.body.length);
    assert_memory_equal(with.body.data, without.body.data, with.body.length);
    http_reply_free(&with);
    http_reply_free(&without);
}

static void responses_keep_nothing(void **state)
{
    expect("POST", "/v1/responses", "{\"input\":\"The sea\",\"max_output_tokens\":2}", 200,
           "\"status\":\"incomplete\"");
    expect("POST", "/v1/responses", "{\"input\":\"x\",\"previous_response_id\":\"resp_1\"}", 400,
           "\"param\":\"previous_response_id\"");
    expect("POST", "/v1/responses", "{\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]}", 400,
           "\"param\":\"input[0].type\"");
    expect("POST", "/v1/responses", "{\"input\":\"x\",\"tool_choice\":{\"type\":\"web_search\"}}", 400,
           "\"param\":\"tool_choice\"");
    expect("POST", "/v1/responses", "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"strict\":1}]}",
           400, "\"param\":\"tools[0].strict\"");
    expect_events("/v1/responses", "{\"input\":\"The sea\",\"max_output_tokens\":3,\"stream\":true}",
                  "response.output_item.done", 1, "response.incomplete\n");
}

/* What is quoted of a request may be cut within a character: the error is JSON all the same. */
static void errors_quote_whole_characters(void **state)
{
#define LONG_TYPE "aääääääääääääääääääääääääääääää"
    expect("POST", "/v1/messages", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"" LONG_TYPE "\"}]}]}",
           400, "messages[0].content[0].type");
    expect("POST", "/v1/responses", "{\"input\":[{\"type\":\"" LONG_TYPE "\"}]}", 400, "\"param\":\"input[0].type\"");
}

static void states_are_told(void **state)
{
    atomic_store(&the_server.state, SERVER_LOADING);
    expect("GET", "/health", "", 503, "\"loading\"");
    expect("GET", "/v1/models", "", 503, "\"loading\"");
    atomic_store(&the_server.state, SERVER_DRAINING);
    expect("GET", "/health", "", 503, "\"draining\"");
    expect("POST", "/v1/chat/completions", "{" SEA "}", 503, "\"shutting_down\"");
    atomic_store(&the_server.state, SERVER_READY);
}

static int status_with(const char *method, const char *path, const char *const *headers)
{
    http_reply reply;
    ask_with(method, path, headers, "{\"content\":\"x\"}", &reply);
    int status = reply.status;
    http_reply_free(&reply);
    return status;
}

#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void pages_of_other_origins_stay_outside(void **state)
{
    http_reply reply;
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "http://localhost:3000")), 200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "https://evil.example")), 403);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "http://localhost@evil.example")), 403);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "http://127.0.0.1.evil.example")), 403);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "null")), 403);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Origin", "http://10.0.0.1:80", "Host", "10.0.0.1:80")),
                     200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Host", "evil.example")), 403);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Host", "[::1]:8080")), 200);
    ask_with("OPTIONS", "/tokenize",
             HEADERS("Origin", "http://localhost", "Access-Control-Request-Headers", "x-stainless-os"), "", &reply);
    assert_int_equal(reply.status, 204);
    assert_string_equal(header_of(&reply, "Access-Control-Allow-Origin"), "http://localhost");
    assert_non_null(strstr(header_of(&reply, "Access-Control-Allow-Headers"), "x-stainless-os"));
    assert_string_equal(header_of(&reply, "Cache-Control"), "no-store");
    http_reply_free(&reply);
}

static void keys_are_asked_for(void **state)
{
    static const char *const keys[] = {"one", "two"};
    options.keys = keys;
    options.key_count = 2;
    the_server.has_keys = true;
    assert_int_equal(status_with("POST", "/tokenize", NULL), 401);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer two")), 200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("x-api-key", "one")), 200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer on")), 401);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer onee")), 401);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer ")), 401);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("x-api-key", "")), 401);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer none", "x-api-key", "one")),
                     200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "Bearer one", "x-api-key", "none")),
                     200);
    assert_int_equal(status_with("POST", "/tokenize", HEADERS("Authorization", "one")), 401);
    assert_int_equal(status_with("GET", "/health", NULL), 200);
    the_server.has_keys = false;
    options.key_count = 0;
}

/* Every test begins with what requests hold when there are none. */
static uint64_t idle_bytes;

static int nothing_is_held(void **state)
{
    return memory_used() == idle_bytes ? 0 : -1;
}

/* Where the account is full a request is refused, not served beyond it. */
static void a_full_account_refuses(void **state)
{
    uint64_t taken = memory_take_up_to(1, memory_limit());
    while (memory_take(1024))
        taken += 1024;
    expect("POST", "/v1/chat/completions", "{" SEA ",\"max_tokens\":1}", 503, "\"code\":\"no_memory\"");
    expect("POST", "/v1/messages", "{" SEA ",\"max_tokens\":1}", 503,
           "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"");
    memory_give(taken);
    expect("POST", "/v1/chat/completions", "{" SEA ",\"max_tokens\":1}", 200, "usage");
}

/* All but `left` bytes of the account; memory_give gives them back. */
static uint64_t take_all_but(uint64_t left)
{
    uint64_t bytes = memory_limit() - memory_used() - left;
    assert_true(memory_take(bytes));
    return bytes;
}

/* Lists that lose their ends would be the worst of answers. */
static void an_answer_is_whole_or_refused_however_little_memory_there_is(void **state)
{
    static const char *const body =
        "{\"content\":\"In the beginning was the word, and the word was long, and it went on "
        "for many days and nights.\",\"with_pieces\":true}";
    http_reply whole, reply;
    int right = 0, refused = 0;
    ask_with("POST", "/tokenize", NULL, body, &whole);
    assert_int_equal(whole.status, 200);
    uint64_t held = memory_used();
    for (uint64_t left = 0; left < (32 << 10); left += 100) {
        uint64_t taken = take_all_but(left);
        ask_with("POST", "/tokenize", NULL, body, &reply);
        memory_give(taken);
        if (reply.status == 200) {
            assert_string_equal(reply.body.data, whole.body.data);
            right++;
        } else {
            assert_int_equal(reply.status, 503);
            assert_string_equal(header_of(&reply, "retry-after"), "1");
            refused++;
        }
        http_reply_free(&reply);
        assert_int_equal(memory_used(), held);
    }
    http_reply_free(&whole);
    assert_true(right > 0 && refused > 0);
}

static void a_stream_that_has_begun_ends_also_without_memory(void **state)
{
    static const char *const asks[][2] = {
        {"/v1/chat/completions", "{" SEA ",\"max_tokens\":6,\"stream\":true,\"logprobs\":true,\"top_logprobs\":9}"},
        {"/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":6,\"stream\":true}"},
        {"/v1/messages", "{" SEA ",\"max_tokens\":6,\"stream\":true}"},
        {"/v1/responses", "{\"input\":\"a\",\"max_output_tokens\":6,\"stream\":true}"}};
    static const char *const ends[] = {"data: [DONE]\n\n", "data: [DONE]\n\n", "event: message_stop",
                                       "\"status\":\"incomplete\""};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        http_reply reply = {0};
        http_request r = request_of("POST", asks[i][0], NULL);
        buffer all = {0};
        stream_step step = STREAM_MORE;
        http_route(&the_server, &r, asks[i][1], strlen(asks[i][1]), &reply);
        http_request_done(&r);
        assert_int_equal(reply.status, 200);
        assert_true(buffer_reserve(&all, 64 << 10));
        uint64_t taken = take_all_but(0);
        while (step == STREAM_MORE) {
            buffer piece = {0};
            step = http_stream_next(&reply, &piece);
            buffer_add(&all, piece.data, piece.length);
            buffer_free(&piece);
        }
        memory_give(taken);
        assert_int_equal(step, STREAM_END);
        assert_non_null(strstr(all.data, ends[i]));
        buffer_free(&all);
        http_reply_free(&reply);
        assert_int_equal(memory_used(), idle_bytes);
    }
}

static int start(void **state)
{
    static char path[4096];
    odmoe_error err;
    snprintf(path, sizeof path, "%s/models/demo.gguf", getenv("ODMOE_SOURCE"));
    serve_options_init(&options);
    options.model = path;
    options.lib.ram_bytes = 64 << 20;
    options.lib.context = 256;
    options.lib.sessions = 2;
    options.lib.threads = 2;
    memory_start();
    the_server = (server){.options = &options, .loopback = true};
    if (serve_sizes(&options, &err) || server_load(&the_server, &err))
        fail_msg("%s", err.message);
    atomic_store(&the_server.state, SERVER_READY);
    idle_bytes = memory_used();
    return 0;
}

static int stop(void **state)
{
    engine_drain(the_server.engine, 0);
    server_unload(&the_server);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, nothing_is_held, nothing_is_held)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(paths_lead_to_routes),
        TEST(fields_are_checked_by_their_paths),
        TEST(what_is_no_object_is_refused),
        TEST(a_stream_ends_with_done),
        TEST(messages_are_anthropic_s),
        TEST(the_billing_block_is_left_out),
        TEST(responses_keep_nothing),
        TEST(errors_quote_whole_characters),
        TEST(states_are_told),
        TEST(pages_of_other_origins_stay_outside),
        TEST(keys_are_asked_for),
        TEST(a_full_account_refuses),
        TEST(an_answer_is_whole_or_refused_however_little_memory_there_is),
        TEST(a_stream_that_has_begun_ends_also_without_memory),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
