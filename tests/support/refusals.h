/* refusals.h - what configurations and files are read as, or refused with. Programs that use it link format_files as well. */
#ifndef ODMOE_TESTS_REFUSALS_H
#define ODMOE_TESTS_REFUSALS_H

#include "model/arch/arch.h"

#include <jansson.h>

#include "gguf_edit.h"

/* golden_config - the config.json of a folder in the tests' data ("mixtral", of models or families) with other members (JSON),
 * in its text_config where it has one; "(absent)" removes a member, null is written. The caller owns it. */
json_t *golden_config(const char *name, const char *members);

/* read_config - what its family makes of a configuration, which is given away. *config, zeroed or of an earlier call, is
 * freed before. */
odmoe_status read_config(json_t *json, model_config *config, odmoe_error *err);

/* config_accepted, config_refused - a golden's configuration with other members is read; or refused with this status and both
 * words in the message. */
void config_accepted(const char *name, const char *members, model_config *config);
void config_refused(const char *name, const char *members, odmoe_status status, const char *word, const char *word2);

/* configs_refused - the same for each of n changes of a golden's configuration. */
typedef struct wrong_config {
    const char *members;
    odmoe_status status;
    const char *word, *word2;
} wrong_config;
void configs_refused(const char *name, const wrong_config *wrong, size_t n);

/* model_refused - `inspect` and `open` tell alike, by status and words, what is wrong with the model at a path, which both
 * name. edit_refused - the same of an edited file, which is freed. */
void model_refused(const char *path, odmoe_status status, const char *word, const char *word2);
void edit_refused(gguf_edit *e, odmoe_status status, const char *word, const char *word2);

#endif
