/* limits.h - what this machine can do at most, measured: the roofline that speeds are compared with. */
#ifndef ODMOE_CLI_LIMITS_H
#define ODMOE_CLI_LIMITS_H

#include <stdint.h>

/* limits_gflops - float32 multiply-adds in registers on `threads` threads, in 1e9 operations a second (a multiply-add
 * is two), with the widest vectors that the processor has. Takes about 0.2 s. */
double limits_gflops(int threads);

/* limits_memory - 1e9 bytes a second read from memory by `threads` threads, each going through its own part of 512 MiB;
 * the best of some rounds. 0 where the memory can't be had. */
double limits_memory(int threads);

/* How the disk is read. */
typedef struct limits_pattern {
    uint64_t block; /* bytes of one read, a multiple of 4096 */
    int depth;      /* reads in flight */
    int burst;      /* the queue drains after this many reads, as between the layers of a decode; 0: it never drains */
    uint64_t bytes; /* to read altogether, at most; blocks at random places, none twice */
} limits_pattern;

/* limits_disk - 1e9 bytes a second read from `path` past the page cache (O_DIRECT; through it and dropped where the
 * file system refuses). 0 where the file can't be read. */
double limits_disk(const char *path, const limits_pattern *pattern);

#endif
