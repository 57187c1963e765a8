/* template_data.h - tests/data/templates for tests: files, JSON (compressed or not), and a run of a template on the
 * variables of a JSON object. */
#ifndef ODMOE_TEST_TEMPLATE_DATA_H
#define ODMOE_TEST_TEMPLATE_DATA_H

#include <jansson.h>

#include "text/template/template.h"

enum { TEMPLATE_TEST_NOW = 1767323045 }; /* 2026-01-02 03:04:05 UTC, the clock of the goldens */

/* templates_json - NAME.json or NAME.json.gz, parsed. Ends the program when it is missing. */
json_t *templates_json(const char *name);
/* templates_source - NAME.jinja, terminated; free it. */
char *templates_source(const char *name);

/* template_run - render t with the members of `context` as variables; messages, tools and documents are foreign. */
template_error template_run(const chat_program *t, const json_t *context, template_text *out, template_fault *fault);

#endif
