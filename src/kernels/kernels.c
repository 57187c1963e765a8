/* kernels.c - the choice of a table, and sizes of rows. */
#include <string.h>

#include "base/cpu.h"
#include "kernels/act.h"
#include "kernels/tables.h"

typedef struct candidate {
    const kernel_table *table;
    bool (*runs_here)(void);
} candidate;

static bool always(void)
{
    return true;
}

#if defined __x86_64__
static bool has_avx2(void)
{
    cpu_features f = cpu_detect();
    return f.avx2 && f.fma && f.f16c;
}

static bool has_avx512(void)
{
    cpu_features f = cpu_detect();
    return has_avx2() && f.avx512f && f.avx512bw && f.avx512vl && f.avx512dq && f.avx512vnni;
}
#endif

#if defined __aarch64__
static bool has_dot_products(void)
{
    return cpu_detect().dotprod;
}
#endif

/* Best first; a new instruction set is one line here. */
static const candidate candidates[] = {
#if defined __x86_64__
    {&kernel_table_avx512, has_avx512},
    {&kernel_table_avx2, has_avx2},
#endif
#if defined __aarch64__
    {&kernel_table_neon_dot, has_dot_products},
    {&kernel_table_neon, always},
#endif
    {&kernel_table_ref, always},
};

enum { CANDIDATES = sizeof candidates / sizeof *candidates };

const kernel_table *kernel_table_at(int i)
{
    for (int c = 0; c < CANDIDATES; c++)
        if (candidates[c].runs_here() && i-- == 0)
            return candidates[c].table;
    return NULL;
}

const kernel_table *kernel_table_find(const char *name)
{
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        if (!strcmp(name, "auto") || !strcmp(name, table->name))
            return table;
    return NULL;
}

size_t act_bytes(activation a, int64_t cols)
{
    switch (a) {
    case ACT_Q8:
        return (size_t)cols / 32 * sizeof(act_q8);
    case ACT_Q8K:
        return (size_t)cols / 256 * sizeof(act_q8k);
    default:
        return (size_t)cols * sizeof(float);
    }
}

size_t kv_bytes(kv_type type, int64_t head_dim)
{
    switch (type) {
    case KV_F16:
        return (size_t)head_dim * 2;
    case KV_Q8_0:
        return (size_t)head_dim / 32 * 34;
    default:
        return (size_t)head_dim * sizeof(float);
    }
}
