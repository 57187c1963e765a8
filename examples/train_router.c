/* train_router.c - a router that sends all tokens to two experts learns to use all of them.
 *
 * The task: rows come from eight clusters, each with a linear map of its own; the layer has to compute the map. The
 * router starts collapsed on experts 0 and 1. Trained with the load-balancing loss it spreads, and the task's loss
 * falls further than without it, where it stays collapsed. Exits with 1 if that doesn't happen.
 *
 * usage: train_router [FOLDER [STEPS]]     FOLDER: for the working copy and the checkpoint; default /tmp */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

enum { H = 16, F = 32, E = 8, K = 2, CLUSTERS = 8, ROWS = 256, REPORT = 50 };

static uint64_t seed = 1;

static float normal(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(seed >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}

static void fill(float *out, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        out[i] = normal() * scale;
}

typedef struct task {
    float centre[CLUSTERS][H], map[CLUSTERS][H][H];
    float x[ROWS * H], target[ROWS * H];
} task;

static void next_batch(task *t)
{
    for (int row = 0; row < ROWS; row++) {
        int c = row % CLUSTERS;
        float *x = t->x + row * H, *target = t->target + row * H;
        x[0] = 1; /* what the collapsed router looks at */
        for (int i = 1; i < H; i++)
            x[i] = t->centre[c][i] + 0.3f * normal();
        for (int o = 0; o < H; o++) {
            target[o] = 0;
            for (int i = 0; i < H; i++)
                target[o] += t->map[c][o][i] * x[i];
        }
    }
}

/* Mean squared error, and its gradient. */
static double squared_error(void *user, const float *y, int64_t n, float *dy)
{
    const task *t = user;
    double sum = 0;
    for (int64_t i = 0; i < n * H; i++) {
        float d = y[i] - t->target[i];
        sum += (double)d * d;
        dy[i] = 2 * d / (float)(n * H);
    }
    return sum / (double)(n * H);
}

typedef struct outcome {
    double first_loss, loss, imbalance;
} outcome;

/* One training run; false: an error was printed. */
static int train(const char *folder, int steps, float aux_coef, outcome *out)
{
    static task t;
    static float router[E * H], experts[E * 3 * H * F];
    odmoe_error err;
    trainer_options o;
    trainer *tr;
    seed = 7; /* the same task and start in each run */
    fill(&t.centre[0][0], CLUSTERS * H, 1.0f);
    fill(&t.map[0][0][0], CLUSTERS * H * H, 0.25f);
    fill(router, E * H, 0.1f);
    fill(experts, E * 3 * H * F, 0.2f);
    router[0 * H] = router[1 * H] = 5; /* collapsed */
    trainer_options_init(&o);
    o.hidden = H;
    o.ffn = F;
    o.experts = E;
    o.top_k = K;
    o.aux_coef = aux_coef;
    o.optimiser.rate = 5e-3f;
    o.folder = folder;
    if (trainer_create(&o, router, experts, &tr, &err)) {
        fprintf(stderr, "train_router: %s\n", err.message);
        return 0;
    }
    double loss = 0, imbalance = 0; /* means over the last steps */
    int done = 1;
    for (int step = 0; step < steps && done; step++) {
        trainer_report r;
        next_batch(&t);
        if (trainer_step(tr, t.x, ROWS, squared_error, &t, &r, &err)) {
            fprintf(stderr, "train_router: %s\n", err.message);
            done = 0;
        }
        if (step == 0)
            *out = (outcome){.first_loss = r.loss};
        loss += r.loss / REPORT;
        imbalance += r.imbalance / REPORT;
        if (step % REPORT == REPORT - 1) {
            printf("step %4d  loss %.4f  balance %.3f  aux %.3f  gradient norm %.3f\n", step + 1, loss, imbalance,
                   r.aux, r.norm);
            out->loss = loss;
            out->imbalance = imbalance;
            loss = imbalance = 0;
        }
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/train_router.safetensors", folder);
    if (done && trainer_save(tr, path, &err)) {
        fprintf(stderr, "train_router: %s\n", err.message);
        done = 0;
    }
    trainer_free(tr);
    return done;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    int steps = argc > 2 ? atoi(argv[2]) : 400;
    outcome with, without;
    if (steps < REPORT) {
        fprintf(stderr, "train_router: at least %d steps\n", REPORT);
        return 2;
    }
    puts("with the load-balancing loss (coefficient 0.05):");
    if (!train(folder, steps, 0.05f, &with))
        return 1;
    puts("without it:");
    if (!train(folder, steps, 0, &without))
        return 1;
    int good = with.imbalance < 1.2 && with.loss < 0.5 * with.first_loss && without.imbalance > 2;
    printf("balance %.3f with the loss, %.3f without; the task's loss fell from %.3f to %.3f (without: %.3f): %s\n",
           with.imbalance, without.imbalance, with.first_loss, with.loss, without.loss, good ? "as it should" : "BAD");
    return !good;
}
