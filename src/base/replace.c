#include "base/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static odmoe_status failed(const char *path, int error, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_IO, "%s: cannot be written: %s", path, strerror(error));
}

static void forget(replacement *r)
{
    free(r->named);
    free(r->target);
    free(r->partial);
    *r = (replacement){.fd = -1};
}

/* The file that `path` means, and its mode; a name that is free means itself, and has none (-1). */
static odmoe_status find_target(const char *path, char target[PATH_MAX], int *mode, odmoe_error *err)
{
    struct stat st;
    *mode = -1;
    if (!stat(path, &st)) {
        if (!S_ISREG(st.st_mode))
            return err_set(err, ODMOE_ERR_IO, "%s: is no regular file and is left as it is; give the name of a file",
                           path);
        *mode = (int)(st.st_mode & 0777);
        return realpath(path, target) ? ODMOE_OK : failed(path, errno, err);
    }
    if (errno != ENOENT)
        return failed(path, errno, err);
    if (!lstat(path, &st))
        return err_set(err, ODMOE_ERR_IO, "%s: is a link to a file that does not exist", path);
    return snprintf(target, PATH_MAX, "%s", path) < PATH_MAX ? ODMOE_OK : failed(path, ENAMETOOLONG, err);
}

static char *join(const char *path, const char *end, odmoe_error *err)
{
    size_t room = strlen(path) + strlen(end) + 1;
    char *out = mem_calloc(room, 1, "a file name", err);
    if (out)
        snprintf(out, room, "%s%s", path, end);
    return out;
}

/* A new file with six random digits at the name's end. As mkostemp, but the umask takes what it takes from `mode`. */
static int create(char *name, mode_t mode)
{
    for (int tries = 0; tries < 100; tries++) {
        uint32_t number;
        if (getentropy(&number, sizeof number))
            return -1;
        snprintf(name + strlen(name) - 6, 7, "%06x", (unsigned)(number & 0xffffff));
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

odmoe_status replace_begin(const char *path, replacement *out, odmoe_error *err)
{
    char target[PATH_MAX];
    int mode;
    *out = (replacement){.fd = -1};
    odmoe_status status = find_target(path, target, &mode, err);
    if (status)
        return status;
    if (!(out->named = join(path, "", err)) || !(out->target = join(target, "", err)) ||
        !(out->partial = join(target, ".XXXXXX", err)))
        status = ODMOE_ERR_MEMORY;
    if (!status && (out->fd = create(out->partial, mode < 0 ? 0666 : 0600)) < 0)
        status = failed(path, errno, err);
    if (status)
        forget(out);
    else if (mode >= 0)
        fchmod(out->fd, (mode_t)mode); /* file systems without modes keep theirs */
    return status;
}

/* The folder's entry must be on the disk as well, or the new name may be lost with the power. Folders that may be
 * written but not read can't be opened for it, and some file systems don't know it (EINVAL): the file is there. */
static int sync_folder(char *path)
{
    int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return error == EACCES || error == EINVAL ? 0 : error;
}

odmoe_status replace_finish(replacement *r, int error, odmoe_error *err)
{
    if (!error && fsync(r->fd))
        error = errno;
    if (close(r->fd) && !error)
        error = errno;
    if (!error && rename(r->partial, r->target))
        error = errno;
    if (error)
        unlink(r->partial);
    else
        error = sync_folder(r->target);
    odmoe_status status = error ? failed(r->named, error, err) : ODMOE_OK;
    forget(r);
    return status;
}
