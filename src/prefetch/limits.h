/* limits.h - every limit and threshold of prefetching, in one place. The figures behind them: bench/RESULTS.md,
 * "Prefetch". */
#ifndef ODMOE_PREFETCH_LIMITS_H
#define ODMOE_PREFETCH_LIMITS_H

/* ---- candidates ---- */

/* Tokens of a call that a program's predictor is shown: the last ones. */
#define OBSERVED_TOKENS_MAX 64
/* Layers ahead for which candidates may be named. Looks at a layer that are told apart by how right they are: one from
 * each of these distances, while an earlier layer's reads are in flight, and look 0, when the layer before it has been
 * computed. */
#define PREFETCH_DISTANCES 3
#define PREFETCH_LOOKS (PREFETCH_DISTANCES + 1)
/* Experts of one layer that are held as candidates, per distance. */
#define PREFETCH_CANDIDATES 64

/* ---- accuracy ---- */

/* Ranks that are told apart; later ones count as the last. */
#define ACCURACY_RANKS 32
/* A rank counts at first as if this many candidates had been seen... */
#define ACCURACY_FIRST_SEEN 6.0f
/* ...with this share of them right: a predictor that a program attaches is trusted until proven wrong, whatever the
 * rank; of a router applied early, a wide margin is trusted and a narrow one must prove itself. */
#define ACCURACY_FIRST_PREDICTOR 0.9f
#define ACCURACY_FIRST_WIDE 0.9f
#define ACCURACY_FIRST_NARROW 0.45f
/* A layer's accuracy for a rank begins from the mean of all layers, which weighs as much as this many candidates of the
 * layer itself. */
#define ACCURACY_POOLED_SEEN 8.0f
/* Counts are halved when they reach this: accuracy follows a change of text. */
#define ACCURACY_FADE 64.0f
/* Candidates of a rank are read from this share of right ones on: a wrong one takes disk and memory bandwidth from
 * what is needed, a right one only comes earlier. From farther than the next layer they must be surer: a better look
 * comes later. */
#define ACCURACY_ENOUGH 0.6f
#define ACCURACY_ENOUGH_FAR 0.8f
/* How far above the best expert that is not chosen a router must see an expert, in standard deviations of the token's
 * logits, for one rank more. */
#define MARGIN_OF_RANK 0.1f

/* ---- the predictor's thread ---- */

/* Calls that may wait for the predictor; more are dropped. */
#define PREDICTOR_CALLS_WAITING 8
/* The thread stops calling the predictor after this many failures in a row. */
#define PREDICTOR_FAILURES_TO_STOP 16

/* ---- the trial: passes with and without prefetching ---- */

/* Passes that fill the cache; their time says nothing. */
#define TRIAL_WARM_UP 8
/* Passes of a kind before the kinds are compared. */
#define TRIAL_SEEN_TO_TELL 6
/* Passes that a mean remembers: of the way that is taken, and of the other one. */
#define TRIAL_SEEN_MOST 64
#define TRIAL_OTHER_MOST 16
/* One pair of passes in this many passes goes the way that was not chosen: FIRST holds until the kinds can be compared,
 * EVERY after that. Where prefetching saves a quarter of the time, these pairs cost 0.8% of the time. */
#define TRIAL_OTHER_FIRST 24
#define TRIAL_OTHER_EVERY 64

#endif
