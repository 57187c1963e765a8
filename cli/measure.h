/* measure.h - what a run cost: the object of `run --stats` and `bench`, and the line that people read. */
#ifndef ODMOE_CLI_MEASURE_H
#define ODMOE_CLI_MEASURE_H

#include <jansson.h>
#include <stdio.h>

#include "cli.h"

typedef struct measure {
    odmoe_model *model;
    odmoe_plan plan;
    odmoe_stats start, prompt, end; /* the library's counters: before, after the prompt, at the end */
    double start_time, prompt_time, first_time, end_time;
    int64_t prompt_tokens;
    int64_t gen_tokens; /* tokens generated */
    int64_t gen_passes; /* passes run for them: the first token comes from the prompt's pass */
} measure;

/* Call in this order; measure_first_token as often as convenient, the first call counts. */
void measure_start(measure *m, odmoe_model *model);
void measure_prompt_done(measure *m, int64_t tokens);
void measure_first_token(measure *m);
void measure_end(measure *m, int64_t tokens, int64_t passes);

/* measure_json - the object for scripts; docs/cli.md lists names and units. The caller decrefs it. */
json_t *measure_json(const measure *m);
/* measure_summary - one line: speed, hits, bytes and rate, share of stall; with `budget` also how that was divided. */
void measure_summary(const measure *m, bool budget, FILE *out);
/* measure_hint - one line on `out` with the --ram that would help, if this machine had that much memory available before
 * the model was opened. Plans again: call it after the model was closed. */
void measure_hint(const measure *m, const char *path, const odmoe_options *options, FILE *out);

/* budget_warning - one line on `out` when the budget is more than this process could take when it was planned.
 * model_warning - the same for an open model on stderr, where people look (talkative). */
void budget_warning(const odmoe_plan *plan, FILE *out);
void model_warning(const odmoe_model *model);

/* json_text - a string of any bytes: what is no UTF-8 becomes U+FFFD, as JSON can hold nothing else. */
json_t *json_text(const char *text, size_t length);

/* json_print - one object on one line of `out`; takes the reference. */
void json_print(json_t *object, FILE *out);

#endif
