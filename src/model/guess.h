/* guess.h - which experts the next layer will choose, before its router can speak: they are read while this layer's
 * experts are computed, and during the next layer's attention.
 *
 *   layer l's reads are in flight -> guess_next: norm and router of l + 1 on the stream as it is now; of its choices,
 *                                    those that are not cached and likely enough -> source.prefetch
 *   layer l + 1's reads begin     -> guess_judge: which were right? What was wrong and is not read yet is taken back
 *   the pass is over              -> guess_settle: with guesses or without, which is faster?
 *
 * A guess can cost reads and time, never change a result. How likely one is right is learned from what the router then
 * chose, by its rank (a row's first choice, its second, ...), and for experts that are not cached only: those that are
 * wanted often are there anyway, and the rest is harder to guess. Judging needs no read, so a rank proves itself before
 * it reads a byte. Whether all this pays depends on the disk, the processor and the text, and what a byte saves cannot
 * be told from counters: a disk that is busy anyway does not get faster by being asked early. So passes with and
 * without guesses are timed, and the faster way is taken, the other one now and then (README.md, "Reading ahead").
 */
#ifndef ODMOE_MODEL_GUESS_H
#define ODMOE_MODEL_GUESS_H

#include "model/blocks/route.h"
#include "moe/likely.h"
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

/* How long a row takes, a mean that follows the latest passes. */
typedef struct guess_mean {
    double ns;
    int seen; /* passes, at most a number from which on old ones fade */
} guess_mean;

/* What has been learned, and whether it pays: lives as long as the model. */
typedef struct guess_state {
    bool possible;   /* false: switched off, everything fits, or one layer: nobody is ever asked */
    int layer;       /* MoE layer that the guess in the workspace is for; -1: none */
    int n, asked;    /* its experts; the first so many have been given to the source */
    likely ranks;    /* how often each has been right */
    bool running;    /* this pass guesses */
    unsigned passes; /* of few rows, so far */
    guess_mean with, without;
} guess_state;

/* Who asks: borrowed for the call. */
typedef struct guess_call {
    const compute *c;
    const model_config *config;
    const expert_source *source;
    const layer_weights *weights; /* of the next layer with experts */
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
 * has not been read of the others. */
void guess_judge(guess_state *g, const guess_work *w, const expert_source *source, int layer, const int32_t *counts);

/* guess_settle - a pass of few rows, failed ones too, has taken so many ns a row: shall the next one guess? */
void guess_settle(guess_state *g, double ns);

#endif
