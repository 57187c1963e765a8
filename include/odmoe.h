/* odmoe.h - run Mixture-of-Experts language models whose experts stay on the SSD.
 *
 * The library keeps what every token needs in memory and reads experts when the router picks them, into a cache
 * with a hard byte budget. It never prints, exits, reads the environment or keeps mutable globals.
 *
 * Conventions
 *   Handles are opaque. X_open/X_close and X_create/X_free come in pairs; close and free take NULL.
 *   A function that can fail returns an odmoe_status and fills the caller's odmoe_error (may be NULL).
 *   Out parameters are written only on ODMOE_OK unless a comment says otherwise.
 *   Structs whose first field is `size` grow at their end: the *_init function sets it, the library reads no further.
 *   Arrays are row-major; a shape [n, vocab] has vocab contiguous.
 *   Strings are UTF-8.
 */
#ifndef ODMOE_H
#define ODMOE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ODMOE_API __attribute__((visibility("default")))

/* ---- status and error ------------------------------------------------------------------------------------- */

/* X(name, value, text): the one list of codes; names and texts cannot drift apart. */
#define ODMOE_STATUS_LIST(X)                           \
    X(OK, 0, "done")                                   \
    X(ERR_ARG, 1, "an argument that makes no sense")   \
    X(ERR_RANGE, 2, "a number out of its range")       \
    X(ERR_MEMORY, 3, "the system gave no memory")      \
    X(ERR_BUDGET, 4, "the memory budget is too small") \
    X(ERR_IO, 5, "reading or writing failed")          \
    X(ERR_FORMAT, 6, "a file that breaks its format")  \
    X(ERR_UNSUPPORTED, 7, "valid, but not supported")  \
    X(ERR_STATE, 8, "called at the wrong time")        \
    X(ERR_CANCELLED, 9, "ended by the caller")

typedef enum odmoe_status {
#define ODMOE_STATUS_ENUM(name, value, text) ODMOE_##name = value,
    ODMOE_STATUS_LIST(ODMOE_STATUS_ENUM)
#undef ODMOE_STATUS_ENUM
} odmoe_status;

#define ODMOE_ERROR_MESSAGE_MAX 512

/* Filled by the function that failed: one line that says what, where and what to do. Owned by the caller. */
typedef struct odmoe_error {
    odmoe_status code;
    char message[ODMOE_ERROR_MESSAGE_MAX];
} odmoe_error;

/* odmoe_status_text - the code's short description; a static string, never NULL. Threads: any. */
ODMOE_API const char *odmoe_status_text(odmoe_status status);

#ifdef __cplusplus
}
#endif
#endif
