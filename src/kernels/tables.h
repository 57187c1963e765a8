/* tables.h - the tables that this build has; kernels.c chooses among them. */
#ifndef ODMOE_KERNELS_TABLES_H
#define ODMOE_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const kernel_table kernel_table_ref;

#endif
