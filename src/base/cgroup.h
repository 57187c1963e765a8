/* cgroup.h - where the control groups of this process are mounted, v1 and v2, inside and outside of containers. */
#ifndef ODMOE_BASE_CGROUP_H
#define ODMOE_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cgroup_walk - call visit(dir, v2, ctx) for each directory that limits this process with `controller` ("memory",
 * "cpu"), from its own group up to the top of the mount. Nothing is called where no cgroups are mounted.
 * root is put before /proc and the mount points: "" for this machine, a fake tree's directory in tests. */
void cgroup_walk(const char *root, const char *controller, void (*visit)(const char *dir, bool v2, void *ctx),
                 void *ctx);

/* Small files of /proc, /sys and cgroups. read_text - at most size - 1 bytes and a terminating 0; false when the file
 * is missing. read_number - one unsigned number; false when missing, or not one ("max"). */
bool read_text(const char *dir, const char *name, char *text, size_t size);
bool read_number(const char *dir, const char *name, uint64_t *number);

/* text_field - the number that follows the line start `key` in a text of "key number" lines; false when absent. */
bool text_field(const char *text, const char *key, uint64_t *number);

#endif
