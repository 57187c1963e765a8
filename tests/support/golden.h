/* golden.h - read a file of expected values (safetensors, any type) into memory. A missing tensor fails the test. */
#ifndef ODMOE_TESTS_GOLDEN_H
#define ODMOE_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct golden golden;

golden *golden_open(const char *path);
void golden_close(golden *g);
bool golden_has(const golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The values of a tensor, F32, I32 or I64; *n (may be NULL) gets how many. Owned by g. */
const float *golden_f32(const golden *g, size_t *n, const char *format, ...) __attribute__((format(printf, 3, 4)));
const int32_t *golden_i32(const golden *g, size_t *n, const char *format, ...) __attribute__((format(printf, 3, 4)));

const int64_t *golden_i64(const golden *g, size_t *n, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* golden_error - the largest error of n numbers, relative to the spread of those expected. */
double golden_error(const float *got, const float *want, size_t n);

/* golden_divergence - mean Kullback-Leibler divergence of the distributions that logits [rows, vocab] stand for, from those
 * expected; in nats. */
double golden_divergence(const float *got, const float *want, int64_t rows, int vocab);

/* test_path - a path below tests/data, or below the source folder where it starts with "/"; static buffer, 8 in turn.
 */
const char *test_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
