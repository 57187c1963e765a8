/* policy.c - the list of policies, and how a name finds one. */
#include "store/policy.h"

#include <stdio.h>
#include <string.h>

static const policy_ops *const policies[] = {&policy_next,  &policy_lru,    &policy_lfu,        &policy_lrfu,
                                             &policy_twice, &policy_layers, &policy_layers_lrfu};
#define POLICIES (int)(sizeof policies / sizeof *policies)

const policy_ops *policy_at(int i)
{
    return i >= 0 && i < POLICIES ? policies[i] : NULL;
}

odmoe_status policy_find(const char *name, const policy_ops **out, odmoe_error *err)
{
    if (!name || !strcmp(name, "auto")) {
        *out = policies[0];
        return ODMOE_OK;
    }
    char names[200] = "auto";
    for (int i = 0; i < POLICIES; i++) {
        if (!strcmp(name, policies[i]->name)) {
            *out = policies[i];
            return ODMOE_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, ", %s", policies[i]->name);
    }
    return err_set(err, ODMOE_ERR_ARG, "no cache policy is called '%s'; there are: %s", name, names);
}
