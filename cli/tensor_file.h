/* tensor_file.h - writes a safetensors file whose tensors come in pieces.
 *
 *   8 bytes: length of the header | header: JSON, padded with blanks | data of the tensors, one after the other
 *
 * The header's room is reserved first; a tensor gets its place when it is added; rows are written where they belong, so
 * nothing but one piece is ever in memory. The file appears under its name when it is complete (out_file.h). */
#ifndef ODMOE_CLI_TENSOR_FILE_H
#define ODMOE_CLI_TENSOR_FILE_H

#include "cli.h"

typedef struct tensor_file tensor_file;

typedef enum tensor_type { TENSOR_F32, TENSOR_I32 } tensor_type; /* both take 4 bytes */

/* tensor_file_create - for at most `most` tensors. NULL: complained. */
tensor_file *tensor_file_create(const char *path, int most);

/* tensor_file_add - a tensor [rows] (columns 0) or [rows, columns]; its index. The same name gives the same index. */
int tensor_file_add(tensor_file *f, const char *name, tensor_type type, int64_t rows, int64_t columns);

/* tensor_file_write - rows first .. first + n - 1 of a tensor. An error is kept for tensor_file_close. */
void tensor_file_write(tensor_file *f, int tensor, int64_t first, int64_t n, const void *data);

/* tensor_file_close - write the header and give the file its name; false: complained, there is no file. keep false:
 * drop everything, nothing is said. f may be NULL. */
bool tensor_file_close(tensor_file *f, bool keep);

#endif
