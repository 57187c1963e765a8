/* sysmem.h - how much memory is there to take, and how much this process has taken. */
#ifndef ODMOE_BASE_SYSMEM_H
#define ODMOE_BASE_SYSMEM_H

#include "base/status.h"

/* sysmem_available - bytes that this process could allocate now without swapping or being killed: the smallest of
 * MemAvailable and, for every memory cgroup on the way up (v1 and v2), limit - usage + page cache that the kernel can
 * drop. What the process itself already holds counts as used.
 *
 * root     put before /proc and the cgroup mounts: "" for this machine, or a directory with a fake tree in tests
 * Errors   ERR_IO  /proc/meminfo is missing or has no MemAvailable */
odmoe_status sysmem_available(const char *root, uint64_t *bytes, odmoe_error *err);

/* sysmem_anonymous - this process's resident anonymous bytes now (RssAnon), cheap enough to be sampled for every layer
 * of a token: a few microseconds. The kernel counts in per-processor batches, so the figure may lag by some 100 KiB.
 * 0 where /proc is missing.
 * sysmem_peak_rss - the highest resident size of this process so far, file pages included (VmHWM). */
uint64_t sysmem_anonymous(const char *root);
uint64_t sysmem_peak_rss(const char *root);

#endif
