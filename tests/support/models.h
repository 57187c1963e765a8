/* models.h - open the small models of tests/data and run them; anything that fails ends the test. */
#ifndef ODMOE_TESTS_MODELS_H
#define ODMOE_TESTS_MODELS_H

#include "odmoe.h"

/* Sizes that the tiny models need little of: 64 MiB, 64 tokens of context, 2 sessions, 2 threads. */
odmoe_options small_options(void);

odmoe_model *must_open(const char *path, const odmoe_options *options);
odmoe_session *must_create(odmoe_model *model, int32_t context);
/* logits [vocab] or NULL */
void must_eval(odmoe_session *session, const int32_t *tokens, int64_t n, float *logits);
int vocab_of(const odmoe_model *model);

/* forward - n tokens of one session; the rest as in odmoe_batch. must_forward ends the test where it fails. */
typedef struct forward_options {
    odmoe_logits_wanted want;
    float *logits;
    void (*on_tap)(void *user, const odmoe_tap *tap);
    void *user;
} forward_options;
odmoe_status forward(odmoe_model *model, odmoe_session *session, const int32_t *tokens, int n,
                     const forward_options *options, odmoe_error *err);
void must_forward(odmoe_model *model, odmoe_session *session, const int32_t *tokens, int n,
                  const forward_options *options);

/* A pseudo-random text: token i, in every vocabulary of at least 512. text_tokens - n of them from `first` on. */
int32_t token_at(int i);
const int32_t *text_tokens(int first, int n);

/* fresh_logits - [vocab] after n tokens of the text in a session of its own; the caller frees them. */
float *fresh_logits(odmoe_model *model, int n);

/* assert_goes_on - the session holds the first n tokens of the text, and after one more gives the same logits as a
 * fresh one, bit for bit. It is cut back to n tokens. */
void assert_goes_on(odmoe_model *model, odmoe_session *session, int n);

#endif
