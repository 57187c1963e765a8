/* trainer.h - trains a layer's router and experts, over the public API alone.
 *
 * The experts live in a file of the trainer's own (the working copy), a flat f32 array from which the layer streams
 * them: an update writes an expert there and has the source forget what it holds of it. Gradients and moments lie in a
 * second file, unlinked and mapped, so that the system may write them out: memory holds the cache, one batch, and what
 * the system leaves there. */
#ifndef ODMOE_TRAIN_TRAINER_H
#define ODMOE_TRAIN_TRAINER_H

#include "adamw.h"
#include "odmoe_tensors.h"
#include "odmoe_train.h"

typedef struct trainer_options {
    int32_t hidden, ffn, experts, top_k;
    adamw optimiser;
    double clip; /* largest norm of all gradients together; 0: no limit */
    float aux_coef, z_coef;
    const char *folder;   /* for the working copy */
    uint64_t cache_bytes; /* room for experts; 0: all */
    int32_t threads;      /* 0: physical cores */
    int keep_activations;
} trainer_options;

void trainer_options_init(trainer_options *options);

typedef struct trainer trainer;

/* trainer_create - from a router [experts, hidden] and experts [experts, 3 * hidden * ffn] (w1 | w2 | w3), both copied.
 * Errors: the library's; ERR_RANGE: sizes that make no sense; ERR_IO names a file. trainer_free removes the working
 * copy; NULL is fine. */
odmoe_status trainer_create(const trainer_options *options, const float *router, const float *experts, trainer **out,
                            odmoe_error *err);
void trainer_free(trainer *t);

typedef struct trainer_report {
    double loss;      /* the program's, before the update */
    double aux, z;    /* without their coefficients */
    double imbalance; /* 1 + std / mean of this batch's counts */
    double norm;      /* of all gradients, before clipping */
} trainer_report;

/* trainer_step - forward of x [n, hidden], the program's loss, backward, update.
 * loss: given y [n, hidden] fills dy with its gradient and returns its value.
 * After an error the weights are as the last whole step left them, or the step's update is half done (ERR_IO while
 * writing): go on from a checkpoint then. */
typedef double trainer_loss(void *user, const float *y, int64_t n, float *dy);
odmoe_status trainer_step(trainer *t, const float *x, int64_t n, trainer_loss *loss, void *user, trainer_report *report,
                          odmoe_error *err);

/* trainer_forward - y [n, hidden] with the weights as they are; routing as in odmoe_layer_forward. */
odmoe_status trainer_forward(trainer *t, const float *x, int64_t n, float *y, odmoe_routing *routing, odmoe_error *err);

const float *trainer_router(const trainer *t); /* [experts, hidden] as it is now */

/* trainer_save - a checkpoint: router, experts, their moments, the step and a checksum of all; whole or not at all:
 * what was there under this name before stays until the new one is on the disk. */
odmoe_status trainer_save(trainer *t, const char *path, odmoe_error *err);

/* trainer_resume - a trainer that goes on where a checkpoint was saved: with the same options and batches its steps
 * give the same bytes as those of the trainer that saved it. The file is only read. Errors: trainer_create's;
 * ERR_FORMAT: cut off, damaged, or not a checkpoint of a layer of this shape; *out is untouched then, and nothing is
 * left behind. */
odmoe_status trainer_resume(const trainer_options *options, const char *path, trainer **out, odmoe_error *err);

#endif
