/* run.h - a run of a template whose variables are set by a function. */
#ifndef ODMOE_TEXT_TEMPLATE_RUN_H
#define ODMOE_TEXT_TEMPLATE_RUN_H

#include "text/template/call.h"

/* template_run - as template_render; prepare sets variables with tpl_run_set, and may fail through s. */
typedef void (*run_prepare)(tpl_state *s, void *user);
template_error template_run_with(const chat_program *t, run_prepare prepare, void *user, int64_t now,
                                 const template_limits *limits, template_text *out, template_fault *fault);
/* tpl_run_set - set the variable of that name, where the template has one. tpl_run_reads - has it. */
void tpl_run_set(tpl_state *s, const char *name, size_t length, value v);
bool tpl_run_reads(tpl_state *s, const char *name);

#endif
