/* gguf_edit.h - change a small GGUF file: metadata and tensors in memory, written out again. Its own reader and writer,
 * for files that tests trust (alignment 32, one part, no arrays of arrays); anything odd ends the test. */
#ifndef ODMOE_TESTS_GGUF_EDIT_H
#define ODMOE_TESTS_GGUF_EDIT_H

#include <stdbool.h>

#include "format_files.h"

/* The numbers of metadata types in a file. */
enum { GG_U32 = 4, GG_I32 = 5, GG_F32 = 6, GG_BOOL = 7, GG_TEXT = 8, GG_ARRAY = 9, GG_U64 = 10, GG_F64 = 12 };
/* The numbers of the tensor types used here. */
enum { GG_TENSOR_F32 = 0, GG_TENSOR_F16 = 1, GG_TENSOR_BF16 = 30 };

typedef struct edit_pair {
    char *key;
    unsigned type;
    bytes value; /* as it stands in the file */
} edit_pair;

typedef struct edit_tensor {
    char name[96];
    unsigned dims, type;
    uint64_t size[4]; /* innermost first, as in the file; 1 beyond dims */
    bytes data;
} edit_tensor;

#define EDIT_PAIRS_MOST 64
#define EDIT_TENSORS_MOST 512
typedef struct gguf_edit {
    edit_pair pairs[EDIT_PAIRS_MOST];
    edit_tensor tensors[EDIT_TENSORS_MOST];
    int pair_count, tensor_count;
} gguf_edit;

/* edit_read - a whole file; edit_empty - nothing yet. edit_free takes either. */
gguf_edit *edit_read(const char *path);
gguf_edit *edit_empty(void);
void edit_free(gguf_edit *e);
/* edit_save - version 3, at temp_path(name); returns the path. */
const char *edit_save(const gguf_edit *e, const char *name);

/* Set or replace a value. edit_remove: the key or the tensor must be there. */
void edit_set_int(gguf_edit *e, const char *key, unsigned type, uint64_t value); /* any integer type or bool */
void edit_set_ints(gguf_edit *e, const char *key, const int32_t *values, int n); /* a list, I32 */
void edit_set_float(gguf_edit *e, const char *key, double value);                /* F32 */
void edit_set_text(gguf_edit *e, const char *key, const char *value);
void edit_set_bools(gguf_edit *e, const char *key, const bool *values, uint64_t n);
void edit_remove(gguf_edit *e, const char *key);

edit_tensor *edit_find(gguf_edit *e, const char *name);
void edit_drop(gguf_edit *e, const char *name);
/* edit_add - a tensor of this shape (inner varies fastest, unused sizes 0) whose data the caller puts. */
edit_tensor *edit_add(gguf_edit *e, const char *name, unsigned type, uint64_t inner, uint64_t rows, uint64_t outer);
/* edit_add_like - a copy under another name. */
edit_tensor *edit_add_like(gguf_edit *e, const char *name, const char *original);

#endif
