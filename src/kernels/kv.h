/* kv.h - how keys and values are stored; the part of kernels.h that is seen above src/compute. */
#ifndef ODMOE_KERNELS_KV_H
#define ODMOE_KERNELS_KV_H

/* Q8_0: GGUF's blocks of 32 along a head. */
typedef enum kv_type { KV_F32, KV_F16, KV_Q8_0, KV_COUNT } kv_type;

#endif
