/* filters.h - the tables of filters, one file a subject. */
#ifndef ODMOE_TEXT_TEMPLATE_FILTERS_H
#define ODMOE_TEXT_TEMPLATE_FILTERS_H

#include "text/template/call.h"

const native *tpl_filter_of_text(const char *name, size_t length);
const native *tpl_filter_of_lists(const char *name, size_t length);
const native *tpl_filter_of_values(const char *name, size_t length);
const native *tpl_filter_rare(const char *name, size_t length);

/* Strings compare without case unless they are told not to: the value that stands for v. */
value tpl_fold_case(tpl_state *s, value v, bool case_sensitive);
/* An optional argument's truth. */
static inline bool wants(value v)
{
    return given(v) && val_true(v);
}

#endif
