/* iq_tables.h - the lattice points and signs of GGUF's IQ1, IQ2 and IQ3 types; see iq_tables.c. */
#ifndef ODMOE_KERNELS_IQ_TABLES_H
#define ODMOE_KERNELS_IQ_TABLES_H

#include <stdint.h>

extern const uint64_t kernel_iq_signs[128];
extern const uint64_t kernel_iq2xxs_grid[256];
extern const uint64_t kernel_iq2xs_grid[512];
extern const uint64_t kernel_iq2s_grid[1024];
extern const uint64_t kernel_iq1_grid[2048];
extern const uint32_t kernel_iq3xxs_grid[256];
extern const uint32_t kernel_iq3s_grid[512];

#endif
