/* fetch_size.h - what kind of forward pass a fetch is part of, as the caller says it; nothing infers it from counts. */
#ifndef ODMOE_STORE_FETCH_SIZE_H
#define ODMOE_STORE_FETCH_SIZE_H

#include <stdint.h>

typedef enum fetch_phase {
    FETCH_PROMPT, /* some sequence brings several tokens */
    FETCH_DECODE  /* each sequence brings one token */
} fetch_phase;

typedef struct fetch_size {
    fetch_phase phase;
    int32_t n_tokens, n_sequences; /* of the forward pass (of its chunk); at least 1 each */
} fetch_size;

#endif
