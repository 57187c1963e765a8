/* family_configs.h - what families make of a config.json, and models that must be refused: derived from the goldens in
 * tests/data/families. Anything that goes another way ends the test. */
#ifndef ODMOE_TESTS_FAMILY_CONFIGS_H
#define ODMOE_TESTS_FAMILY_CONFIGS_H

#include "model/arch/arch.h"

#include "gguf_edit.h"

/* read_family - a family's config.json, without its weights, with other members (JSON; "(absent)" removes one), which go
 * into its text_config where it has one. config_free(config) is the caller's, after an error too. */
odmoe_status read_family(const char *family, const char *members, model_config *config, odmoe_error *err);

/* families_refused - each of n changes of a family's config.json gives its status and one line with both words. */
typedef struct wrong_config {
    const char *members;
    odmoe_status status;
    const char *word, *word2;
} wrong_config;
void families_refused(const char *family, const wrong_config *wrong, size_t n);

/* file_refused - `inspect` and `open` refuse an edited file with the status and one line that names the file and has both
 * words. Frees e. */
void file_refused(gguf_edit *e, odmoe_status status, const char *word, const char *word2);

#endif
