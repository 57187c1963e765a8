/* Linked with --wrap=cpu_detect into the test of emulated tables: the processor is taken to have everything. */
#include <stdio.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "kernels/kernels.h"

cpu_features __wrap_cpu_detect(void);

cpu_features __wrap_cpu_detect(void)
{
    return (cpu_features){.avx2 = true,
                          .fma = true,
                          .f16c = true,
                          .avx512f = true,
                          .avx512bw = true,
                          .avx512vl = true,
                          .avx512dq = true,
                          .avx512vnni = true};
}

/* Without its table the test would pass by testing nothing. */
__attribute__((constructor)) static void table_is_there(void)
{
    if (!kernel_table_find("avx512")) {
        fputs("the avx512 table is missing\n", stderr);
        exit(1);
    }
}
