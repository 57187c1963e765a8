/* guess.h - which experts the next layer will choose, before its router can speak: they are read while this layer's
 * experts are computed, and during the next layer's attention.
 *
 *   layer l's reads are in flight -> guess_next: norm and router of l + 1 on the stream as it is now; of its choices,
 *                                    those that are not cached and likely enough -> source.prefetch
 *   layer l + 1's reads begin     -> guess_judge: which were right? What was wrong and is not read yet is taken back
 *   the pass is over              -> guess_settle: does it pay?
 *
 * A guess can cost reads and time, never change a result. How likely one is right is learned from what the router then
 * chose, by its rank (a row's first choice, its second, ...), and for experts that are not cached only: those that are
 * wanted often are there anyway, and the rest is harder to guess. Judging needs no read, so a rank proves itself before
 * it reads a byte. When what right guesses hide is less than what the wrong ones and the guessing cost, nobody is asked
 * for a while (README.md, "Reading ahead").
 */
#ifndef ODMOE_MODEL_GUESS_H
#define ODMOE_MODEL_GUESS_H

#include "model/blocks/route.h"
#include "moe/source.h"

/* The workspace of a guess. */
typedef struct guess_work {
    int64_t max_rows;
    float *norm;      /* [max_rows, hidden] what the next router would see */
    activations in;   /* the same in the formats that routers take */
    route_out said;   /* [max_rows] */
    int32_t *experts; /* [max_rows * top_k] the guess: not cached, best first, each once */
    uint8_t *rank;    /* [max_rows * top_k] its best rank among a row's choices */
    float *scores;    /* [max_rows * top_k] how likely it is right */
} guess_work;

/* What reads have cost so far. */
typedef struct guess_costs {
    uint64_t stall_ns, bytes; /* waiting for demands, and what they read */
} guess_costs;

/* What has been learned, and whether it pays: lives as long as the model.
 *
 *   trial --did not pay--> pause, twice as long each time --> trial
 *     `--paid----> trial, and now and then a short pause, to see what a missed byte costs without guesses */
typedef struct guess_state {
    bool possible; /* false: switched off, everything fits, or one layer: nobody is ever asked */
    int layer;     /* MoE layer that the guess in the workspace is for; -1: none */
    int n, asked;  /* its experts; the first so many have been given to the source */
    float seen[ROUTER_TOP_K_MAX], right[ROUTER_TOP_K_MAX]; /* guesses of each rank, old ones fading */
    bool running;                                          /* a trial, not a pause */
    int left;                                              /* passes of it */
    int trials;                                            /* that paid, in a row */
    int next_pause;                                        /* passes, after a trial that does not pay */
    double stall_a_byte; /* ns waited for a byte that was missed, in the last pause; -1: there was none yet */
    guess_costs since;   /* when the trial or pause began */
    uint64_t right_bytes, wrong_bytes, guess_ns; /* of the trial */
} guess_state;

/* Who asks: borrowed for the call. */
typedef struct guess_call {
    const compute *c;
    const model_config *config;
    const expert_source *source;
    const resident *weights; /* of the next layer with experts */
    int layer;               /* its number among the layers with experts */
    float *probs;            /* [threads, experts] scratch */
} guess_call;

/* guess_layout - room for the chunks that count as few rows, of at most max_rows. mask: formats that routers take. */
void guess_layout(arena *a, const model_config *c, unsigned mask, int64_t max_rows, guess_work *out);

/* guess_init - `possible`: see above. guess_wanted - shall the next layer's experts be guessed for n rows now. */
void guess_init(guess_state *g, bool possible);
bool guess_wanted(const guess_state *g, const guess_work *w, int64_t n);

/* guess_next - guess for the rows x [n, hidden] of the residual stream and have the likely ones read ahead. */
void guess_next(guess_state *g, guess_work *w, const guess_call *call, const float *x, int64_t n);

/* guess_judge - MoE layer `layer` has begun to fetch its experts, those with counts[e] > 0: learn, and take back what
 * has not been read of the others. `index`: their sizes. */
void guess_judge(guess_state *g, const guess_work *w, const expert_source *source, const expert_index *index, int layer,
                 const int32_t *counts);

/* guess_settle - a pass of few rows is over, failed ones too. At the end of a trial: go on, or pause. */
void guess_settle(guess_state *g, const guess_costs *now);

#endif
