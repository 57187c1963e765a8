/* file.h - opening and reading files that may be hostile: only regular files, whole reads, paths in messages. */
#ifndef ODMOE_FORMAT_FILE_H
#define ODMOE_FORMAT_FILE_H

#include <stdbool.h>

#include "base/status.h"

/* file_open - open a regular file for reading; *fd is the caller's to close(). A FIFO, folder or device is refused
 * (ERR_IO) without waiting for its other end. Where `optional`, a file that is not there gives ODMOE_OK and *fd = -1.
 */
odmoe_status file_open(const char *path, bool optional, int *fd, uint64_t *size, odmoe_error *err);

/* file_read_at - bytes [offset, offset + length) of fd into out. Interrupted and short reads are continued; ERR_IO
 * names `path`, also where the file ends before (it has shrunk since its size was taken). */
odmoe_status file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t length, odmoe_error *err);

/* file_load - a whole file with a 0 behind it; free(*text). ERR_FORMAT where it is larger than max_bytes. Where
 * `optional`, a file that is not there gives ODMOE_OK and *text = NULL. */
odmoe_status file_load(const char *path, size_t max_bytes, bool optional, char **text, size_t *length,
                       odmoe_error *err);

/* file_join - "folder/name" as a new string, or NULL with err set; free() it. */
char *file_join(const char *folder, const char *name, odmoe_error *err);

/* file_placeholder - what stands in an open file instead of the model, in words that follow its name in a message: it
 * is empty, or a Git LFS pointer. NULL: neither. */
const char *file_placeholder(int fd, uint64_t size);

/* file_label - the end of a path, short enough to leave room in a message for what is wrong. Points into `path`. */
const char *file_label(const char *path);

#endif
