/* fuzz.h - what a fuzz target has: libFuzzer's entry point, and a file to hand its input to readers that want a path.
 */
#ifndef ODMOE_TESTS_FUZZ_H
#define ODMOE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* LLVMFuzzerTestOneInput - use the input in every way that a program would; whatever it holds, no crash, and an error
 * where there is one has a message. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* fuzz_file - an open file in memory that holds the input; its path is /proc/self/fd/NUMBER. close() it. */
int fuzz_file(const uint8_t *data, size_t size);

/* fuzz_touch - read all bytes, so that a sanitizer sees those that may not be. */
void fuzz_touch(const void *data, size_t size);

/* fuzz_check_error - ends the process when a failed call has no proper message. */
struct odmoe_error;
void fuzz_check_error(int status, const struct odmoe_error *err);

#endif
