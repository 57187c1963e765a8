/* replace.h - write a file so that its name always means a whole one, the old or the new: a file of another name beside
 * it, fsync, rename, fsync of the folder. */
#ifndef ODMOE_BASE_REPLACE_H
#define ODMOE_BASE_REPLACE_H

#include "base/status.h"

typedef struct replacement {
    int fd;      /* write the new contents here */
    char *named; /* as the caller names it, for messages */
    char *target, *partial;
} replacement;

/* replace_begin - a new empty file that is to become `path`. Links are followed: the link stays, its file is replaced.
 * A file that is replaced leaves its mode to the new one; else the umask says what it is.
 * Errors   ERR_IO: the folder cannot be written, or `path` is something that must not be replaced (a device, a FIFO, a
 *          folder); ERR_MEMORY. Nothing is left to finish then.
 * replace_finish - error 0: everything has been written, take it; else an errno: drop it, `path` stays as it was.
 * Errors   ERR_IO with the reason, the one passed in included; nothing is left behind but the old file, or the new one
 *          where only the folder could not be brought to the disk. */
odmoe_status replace_begin(const char *path, replacement *out, odmoe_error *err);
odmoe_status replace_finish(replacement *r, int error, odmoe_error *err);

#endif
