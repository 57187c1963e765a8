/* out_file.h - a file that appears under its name when it is complete.
 *
 * It is written under another name in the same folder and renamed at the end, so that nobody meets half of it and an
 * older file stays until the new one is whole. What stands under the name is replaced only if it is a regular file; a
 * link stays, and the file that it leads to is replaced. Ctrl-C and the like remove what is unfinished. */
#ifndef ODMOE_CLI_OUT_FILE_H
#define ODMOE_CLI_OUT_FILE_H

#include "cli.h"

typedef struct out_file {
    int fd;
    int error;        /* the first errno, 0 so far */
    const char *path; /* as given, borrowed */
    char *target, *partial;
} out_file;

/* out_file_open - false: complained, nothing is open. One at a time: a signal removes the last. */
bool out_file_open(out_file *f, const char *path);

/* out_file_write - at a byte of the file. An error is kept for out_file_close. */
void out_file_write(out_file *f, const void *data, int64_t bytes, int64_t offset);

/* out_file_close - give the file its name; false: complained, there is no new file. keep false: drop it, say nothing.
 */
bool out_file_close(out_file *f, bool keep);

#endif
