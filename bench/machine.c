/* machine.c - print this machine's limits as one JSON object.  usage: machine FILE [THREADS]     FILE: a large one to
 * read */
#include <stdio.h>
#include <stdlib.h>

#include "limits.h"

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: machine FILE [THREADS]\n");
        return 2;
    }
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
