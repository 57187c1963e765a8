/* generate.c - continue a text with a model that need not fit in memory.
 * usage: generate MODEL BUDGET PROMPT      e.g. generate models/demo.gguf 16MiB "In the beginning"
 * build: cc generate.c $(pkg-config --cflags --libs odmoe) -o generate */
#include <odmoe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static odmoe_error err;
static void check(odmoe_status status)
{
    if (status) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    odmoe_options options;
    odmoe_options_init(&options);
    check(odmoe_size_parse(argv[2], &options.ram_bytes, &err));
    options.context = 256;

    odmoe_model *model;
    odmoe_session *session;
    check(odmoe_model_open(argv[1], &options, &model, &err));
    check(odmoe_session_create(model, 0, &session, &err));

    const odmoe_tokenizer *tokenizer = odmoe_model_tokenizer(model);
    int32_t ids[200];
    size_t n;
    check(odmoe_tokenize(tokenizer, argv[3], strlen(argv[3]), ODMOE_TOKENIZE_START, ids, 200, &n, &err));
    if (n < 1 || n > 200)
        return 2;

    odmoe_sampler_options sampling;
    odmoe_sampler_options_init(&sampling);
    sampling.temperature = 0; /* always the likeliest token */
    odmoe_sampler *sampler;
    odmoe_stream *stream;
    odmoe_info info = {.size = sizeof info}; /* a model may have more logits than its tokenizer has tokens */
    odmoe_model_info(model, &info);
    check(odmoe_sampler_create(&sampling, info.vocab, &sampler, &err));
    check(odmoe_stream_create(tokenizer, &stream, &err));
    float *logits = malloc(sizeof *logits * (size_t)info.vocab);
    if (!logits)
        return 1;
    check(odmoe_eval(session, ids, (int64_t)n, logits, &err));
    for (int i = 0; i < 50; i++) {
        int32_t token;
        check(odmoe_sample(sampler, logits, NULL, &token, &err));
        if (odmoe_token_is_end(tokenizer, token))
            break;
        const char *text;
        size_t length;
        check(odmoe_stream_push(stream, token, &text, &length, &err));
        fwrite(text, 1, length, stdout);
        check(odmoe_eval(session, &token, 1, logits, &err));
    }
    putchar('\n');

    free(logits);
    odmoe_stream_free(stream);
    odmoe_sampler_free(sampler);
    odmoe_session_free(session);
    odmoe_model_close(model);
    return 0;
}
