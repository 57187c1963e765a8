/* kernels.c - the choice of a table, and sizes of rows. */
#include <string.h>

#include "kernels/act.h"
#include "kernels/tables.h"

/* Best first; a new instruction set is one line here. */
static const kernel_table *const tables[] = {
    &kernel_table_ref,
};

static bool always(void)
{
    return true;
}

static bool (*const runs_here[])(void) = {
    always,
};

enum { TABLES = sizeof tables / sizeof *tables };

const kernel_table *kernel_table_at(int i)
{
    for (int t = 0; t < TABLES; t++)
        if (runs_here[t]() && i-- == 0)
            return tables[t];
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
