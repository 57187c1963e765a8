/* machine.c - print this machine's limits as one JSON object.
 * usage: machine FILE [THREADS]             all limits; FILE: a large one to read
 *        machine FILE --burst READS BYTES   only the disk, in bursts of READS reads of BYTES, the queue drained between
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"

#define DEPTH_MAX 32           /* as many reads as the store has in flight at most */
#define BURST_TOTAL (1u << 30) /* bytes to read for one figure */

static int wrong_usage(void)
{
    fprintf(stderr, "usage: machine FILE [THREADS]\n       machine FILE --burst READS BYTES\n");
    return 2;
}

/* Reads and bytes as a run of a model had them on average; a direct read is a multiple of 4096. */
static int burst_only(const char *path, const char *reads, const char *bytes)
{
    limits_pattern p = {
        .block = (strtoull(bytes, NULL, 10) + 4095) / 4096 * 4096, .burst = atoi(reads), .bytes = BURST_TOTAL};
    if (p.burst < 1 || !p.block || p.block > BURST_TOTAL)
        return wrong_usage();
    p.depth = p.burst < DEPTH_MAX ? p.burst : DEPTH_MAX;
    printf("{\"burst_reads\": %d, \"read_bytes\": %llu, \"disk_burst_gbps\": %.3f}\n", p.burst,
           (unsigned long long)p.block, limits_disk(path, &p));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[2], "--burst"))
        return burst_only(argv[1], argv[3], argv[4]);
    if (argc < 2 || argc > 3)
        return wrong_usage();
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    const uint64_t blocks[] = {64u << 10, 256u << 10, 1u << 20, 4u << 20};
    const int depths[] = {1, 2, 4, 8, 16, 32};
    printf("{\"threads\": %d, \"gflops\": %.1f, \"memory_gbps\": %.2f", threads, limits_gflops(threads),
           limits_memory(threads));
    /* 24 reads: the pieces of 8 experts, as a layer of a decode asks for them */
    limits_pattern burst = {1u << 20, 24, 24, 1u << 30}, stream = {1u << 20, 24, 0, 1u << 30};
    printf(", \"disk_burst_gbps\": %.3f, \"disk_stream_gbps\": %.3f, \"disk\": {", limits_disk(argv[1], &burst),
           limits_disk(argv[1], &stream));
    for (int b = 0; b < 4; b++)
        for (int d = 0; d < 6; d++) {
            limits_pattern p = {blocks[b], depths[d], 0, 256u << 20};
            printf("%s\"%lluKiB x %d\": %.3f", b + d ? ", " : "", (unsigned long long)(blocks[b] >> 10), depths[d],
                   limits_disk(argv[1], &p));
        }
    printf("}}\n");
    return 0;
}
