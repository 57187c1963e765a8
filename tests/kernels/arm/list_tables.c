/* The names of the tables that this processor runs, best first, on one line. tools/test_neon.sh compares them with
 * those that the emulated processor must have. */
#include <stdio.h>

#include "kernels/kernels.h"

int main(void)
{
    const kernel_table *table;
    for (int i = 0; (table = kernel_table_at(i)); i++)
        printf("%s%s", i ? " " : "", table->name);
    puts("");
    return 0;
}
