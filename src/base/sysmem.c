#include "base/sysmem.h"

#include "base/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STAT_TEXT 8192 /* memory.stat has some 60 lines */

static void lower_to(uint64_t *smallest, uint64_t limit, uint64_t used, uint64_t reclaimable)
{
    uint64_t held = used > reclaimable ? used - reclaimable : 0;
    uint64_t left = limit > held ? limit - held : 0;
    if (left < *smallest)
        *smallest = left;
}

/* Page cache of the group and its children that can be dropped, from memory.stat. Shared memory lies on the anonymous
 * lists, so the file lists hold only what has a file behind it. */
static uint64_t reclaimable_cache(const char *dir, bool v2)
{
    char stat[STAT_TEXT];
    uint64_t inactive = 0, active = 0;
    if (!read_text(dir, "memory.stat", stat, sizeof stat))
        return 0;
    text_field(stat, v2 ? "inactive_file" : "total_inactive_file", &inactive);
    text_field(stat, v2 ? "active_file" : "total_active_file", &active);
    return inactive + active;
}

static void visit_memory(const char *dir, bool v2, void *ctx)
{
    uint64_t *smallest = ctx;
    uint64_t limit = UINT64_MAX, high, used;
    if (v2) {
        read_number(dir, "memory.max", &limit); /* "max" leaves it unlimited */
        if (read_number(dir, "memory.high", &high) && high < limit)
            limit = high; /* beyond it the kernel slows the group down until it stands still */
    } else {
        read_number(dir, "memory.limit_in_bytes", &limit);
    }
    if (limit != UINT64_MAX && read_number(dir, v2 ? "memory.current" : "memory.usage_in_bytes", &used))
        lower_to(smallest, limit, used, reclaimable_cache(dir, v2));
}

odmoe_status sysmem_available(const char *root, uint64_t *bytes, odmoe_error *err)
{
    char dir[512], text[STAT_TEXT];
    uint64_t kib;
    snprintf(dir, sizeof dir, "%s/proc", root);
    if (!read_text(dir, "meminfo", text, sizeof text) || !text_field(text, "MemAvailable:", &kib))
        return err_set(err, ODMOE_ERR_IO, "%s/meminfo: no MemAvailable; give the budget with --ram", dir);
    uint64_t smallest = kib * 1024;
    cgroup_walk(root, "memory", visit_memory, &smallest);
    *bytes = smallest;
    return ODMOE_OK;
}

uint64_t sysmem_anonymous(const char *root)
{
    /* statm is formatted faster than status: pages of size, resident, and resident with a file or shared memory behind
     * them; the rest is RssAnon. */
    char dir[512], text[256];
    unsigned long long resident, shared;
    snprintf(dir, sizeof dir, "%s/proc/self", root);
    if (!read_text(dir, "statm", text, sizeof text) || sscanf(text, "%*u %llu %llu", &resident, &shared) != 2)
        return 0;
    return resident > shared ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t sysmem_peak_rss(const char *root)
{
    char dir[512], text[STAT_TEXT];
    uint64_t kib = 0;
    snprintf(dir, sizeof dir, "%s/proc/self", root);
    if (read_text(dir, "status", text, sizeof text))
        text_field(text, "VmHWM:", &kib);
    return kib * 1024;
}
