/* config.h - a Hugging Face folder's JSON files (config.json, generation_config.json, tokenizer_config.json...), with
 * range checks on every number. Own limits on file size and nesting depth; jansson does the parsing. */
#ifndef ODMOE_FORMAT_CONFIG_H
#define ODMOE_FORMAT_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"

/* config_read - parse folder/name into *out (json_decref when done). max_bytes bounds the file. A file that is not
 * there gives ODMOE_OK and *out = NULL when `optional`, else ERR_IO. ERR_FORMAT names file and line: for text that is
 * not JSON, a key twice in one object, nesting deeper than 64, some 4.6 million values, a root that is no object. NaN,
 * Infinity and integers beyond 64 bits are read as empty texts: a field that is not read may hold them. */
odmoe_status config_read(const char *folder, const char *name, size_t max_bytes, bool optional, json_t **out,
                         odmoe_error *err);

/* config_read_nul - the same for a file whose keys are texts of tokens: U+0000 in a key is read as the character `nul`
 * (three bytes; "" where the file has no U+0000). Values hold the 0 itself in either function.
 * config_restore_nul - put the 0s back into a key's copy text[0, length), nul not ""; returns the new length. */
odmoe_status config_read_nul(const char *folder, const char *name, size_t max_bytes, bool optional, json_t **out,
                             char nul[4], odmoe_error *err);
size_t config_restore_nul(char *text, size_t length, const char *nul);

/* config_* - a number, text or boolean member of a JSON object; `null` counts as missing. A missing one gives *out =
 * fallback (ERR_FORMAT where `required`). Wrong kind or out of [min, max]: ERR_FORMAT that names file and field.
 * Texts live as long as the object. A number that is no number (NaN, Infinity) or an integer beyond 64 bits is of the
 * wrong kind. */
typedef struct config_object {
    const json_t *object;
    const char *file; /* for messages */
} config_object;
odmoe_status config_int(config_object c, const char *key, bool required, int64_t min, int64_t max, int64_t fallback,
                        int64_t *out, odmoe_error *err);
odmoe_status config_float(config_object c, const char *key, bool required, double min, double max, double fallback,
                          double *out, odmoe_error *err);
odmoe_status config_bool(config_object c, const char *key, bool required, bool fallback, bool *out, odmoe_error *err);
odmoe_status config_text(config_object c, const char *key, bool required, const char *fallback, const char **out,
                         odmoe_error *err);

/* config_part - a member that is an object itself; out->object is NULL when it is missing or null, and then all of the
 * functions above find nothing in it. */
odmoe_status config_part(config_object c, const char *key, config_object *out, odmoe_error *err);

/* config_numbers - a list of numbers, each from min to max: *out [*n], which the caller frees; NULL and 0 where it is
 * missing. ERR_FORMAT: no list, an empty one, one of more than CONFIG_NUMBERS_MAX, an entry that is no number or out of
 * range; ERR_MEMORY. */
#define CONFIG_NUMBERS_MAX 4096
odmoe_status config_numbers(config_object c, const char *key, double min, double max, float **out, int *n,
                            odmoe_error *err);

/* The position encoding, the same from `rope_theta` + `rope_scaling` (transformers 4) and `rope_parameters` (5). */
typedef enum rope_scaling {
    ROPE_NONE,
    ROPE_LINEAR,
    ROPE_YARN,
    ROPE_PROPORTIONAL, /* the first `part` of the pairs is rotated, with the frequencies of the whole head (Gemma 4) */
    ROPE_LLAMA3,       /* pairs of less than beta_slow turns over the original context are stretched, of more than
                          beta_fast not, those between mixed */
    ROPE_LONG          /* a factor for each pair (LongRoPE); which of two lists, the context decides */
} rope_scaling;
typedef struct rope_config {
    double theta;
    rope_scaling scaling;
    double factor;               /* positions are stretched by this much; 1 when ROPE_NONE */
    double part;                 /* of ROPE_PROPORTIONAL; 0 to 1 */
    int64_t original_context;    /* YaRN, Llama 3, LongRoPE: the context that the model was trained with */
    double beta_fast, beta_slow; /* YaRN: 32 and 1; Llama 3: high_freq_factor and low_freq_factor */
    double ntk_alpha;            /* 'dynamic' with an alpha: the base grows by alpha^(d / (d - 2)); 0: not */
    double attention_factor;     /* YaRN, LongRoPE: multiplies cos and sin; 0: from the factor (model/rope.c) */
    double long_attention;       /* LongRoPE: the same with the factors of long contexts */
    double mscale_all_dim;       /* YaRN: weight of the factor's logarithm in the scale of scores; 0: no part in it */
    bool truncate;  /* YaRN: the ramp's ends are rounded to whole dimensions; true unless the file says not */
    bool step_ramp; /* YaRN: ends in the wrong order make a step, not a falling ramp; false in Hugging Face's files */
} rope_config;
/* config_rope - read it. ERR_UNSUPPORTED names a scaling that is not known. max_context: max_position_embeddings.
 * config_rope_of - the same of a model whose layers have several rope settings: `layers` is the one whose object is read
 * ("sliding_attention"). A file without that object, but with others: ERR_FORMAT.
 * config_rope_object - the object that either reads (layers NULL: config_rope); object NULL: the file has none. */
odmoe_status config_rope(config_object c, double default_theta, int64_t max_context, rope_config *out,
                         odmoe_error *err);
odmoe_status config_rope_of(config_object c, const char *layers, double default_theta, int64_t max_context,
                            rope_config *out, odmoe_error *err);
odmoe_status config_rope_object(config_object c, const char *layers, config_object *out, odmoe_error *err);

#endif
