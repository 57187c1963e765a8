/* atomic_file.h - write a file so that its name always means a whole one, the old or the new.
 *
 *   begin    a file without a name in the same folder (O_TMPFILE): when the program ends, however it ends, it is gone
 *   finish   fsync ─ link it as `partial` ─ rename to `target` ─ fsync of the folder
 *
 * Where the file system knows no files without names, the file has the name `partial` from the beginning. */
#ifndef ODMOE_BASE_ATOMIC_FILE_H
#define ODMOE_BASE_ATOMIC_FILE_H

#include <stdbool.h>

#include "base/status.h"

typedef struct atomic_file {
    int fd; /* the new contents go here */
    bool nameless;
    char *named;  /* as the caller names the file, for messages */
    char *target; /* the same with links followed */
    char *partial;
} atomic_file;

/* atomic_file_begin - a new empty file that is to become `path`. Links are followed: the link stays, its file is
 * replaced. A file that is replaced leaves its mode to the new one; else the umask says what it is.
 * Errors   ERR_IO: the folder cannot be written, or `path` is something that must not be replaced (a device, a FIFO, a
 *          folder); ERR_MEMORY. Nothing is left to finish then.
 * atomic_file_write - all bytes of data, at a place of the file. 0, or the errno of what failed.
 * atomic_file_error - the message of such an errno, with the file's name; returns ERR_IO.
 * atomic_file_finish - error 0: everything has been written, take the file; else an errno: drop it, `path` stays as it
 * was.
 * Errors   ERR_IO with the reason, the one passed in included; nothing is left behind but the old file, or the new one
 *          where only the folder could not be brought to the disk. */
odmoe_status atomic_file_begin(const char *path, atomic_file *out, odmoe_error *err);
int atomic_file_write(const atomic_file *f, const void *data, uint64_t bytes, uint64_t offset);
odmoe_status atomic_file_error(const atomic_file *f, int error, odmoe_error *err);
odmoe_status atomic_file_finish(atomic_file *f, int error, odmoe_error *err);
/* atomic_file_drop - finish without a new file and without a message. */
void atomic_file_drop(atomic_file *f);

#endif
