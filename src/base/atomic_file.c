#include "base/atomic_file.h"

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

enum { NAME_DIGITS = 12, PROC_LINK_MAX = 32 };
#define WRITE_MAX ((uint64_t)1 << 30) /* in one call; the kernel takes less than 2 GiB */

static odmoe_status failed(const char *path, int error, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_IO, "%s: cannot be written: %s", path, strerror(error));
}

static void forget(atomic_file *f)
{
    free(f->named);
    free(f->target);
    free(f->partial);
    *f = (atomic_file){.fd = -1};
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

static char *copy(const char *text, size_t length, size_t room_behind, odmoe_error *err)
{
    char *out = mem_calloc(length + room_behind + 1, 1, "a file name", err);
    if (out)
        memcpy(out, text, length);
    return out;
}

/* The name of the file while it is written: that of the target with a dot and random digits; a name that would become too
 * long loses its end. NULL: err says why. */
static char *partial_name(const char *target, odmoe_error *err)
{
    const char *slash = strrchr(target, '/');
    size_t folder = slash ? (size_t)(slash + 1 - target) : 0, base = strlen(target) - folder;
    const size_t most = NAME_MAX - NAME_DIGITS - 1;
    size_t length = folder + (base < most ? base : most);
    uint64_t number;
    char *out = copy(target, length, NAME_DIGITS + 1, err);
    if (!out)
        return NULL;
    if (getentropy(&number, sizeof number)) {
        failed(target, errno, err);
        free(out);
        return NULL;
    }
    snprintf(out + length, NAME_DIGITS + 2, ".%0*llx", NAME_DIGITS,
             (unsigned long long)(number >> (64 - 4 * NAME_DIGITS)));
    return out;
}

/* The link of /proc that leads to an open file, for one that has no name. */
static void proc_link(int fd, char out[PROC_LINK_MAX])
{
    snprintf(out, PROC_LINK_MAX, "/proc/self/fd/%d", fd);
}

/* A file without a name in the folder of `name`; -1 where the file system, or a system without /proc, has none. */
static int create_nameless(const char *name, mode_t mode)
{
    char folder[PATH_MAX], link[PROC_LINK_MAX];
    snprintf(folder, sizeof folder, "%s", name);
    int fd = open(dirname(folder), O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    proc_link(fd, link);
    if (!access(link, F_OK))
        return fd;
    close(fd);
    return -1;
}

/* As mkostemp, but the umask takes what it takes from `mode`, and the file has no name yet where that can be. */
static int create(atomic_file *f, mode_t mode)
{
    int fd = create_nameless(f->partial, mode);
    f->nameless = fd >= 0;
    return f->nameless ? fd : open(f->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
}

static odmoe_status name_files(atomic_file *f, const char *path, const char *target, odmoe_error *err)
{
    f->named = copy(path, strlen(path), 0, err);
    f->target = f->named ? copy(target, strlen(target), 0, err) : NULL;
    f->partial = f->target ? partial_name(target, err) : NULL;
    return f->partial ? ODMOE_OK : err ? err->code : ODMOE_ERR_MEMORY;
}

odmoe_status atomic_file_begin(const char *path, atomic_file *out, odmoe_error *err)
{
    char target[PATH_MAX];
    int mode;
    *out = (atomic_file){.fd = -1};
    odmoe_status status = find_target(path, target, &mode, err);
    if (status)
        return status;
    status = name_files(out, path, target, err);
    if (!status && (out->fd = create(out, mode < 0 ? 0666 : 0600)) < 0)
        status = failed(path, errno, err);
    if (status)
        forget(out);
    else if (mode >= 0)
        fchmod(out->fd, (mode_t)mode); /* file systems without modes keep theirs */
    return status;
}

int atomic_file_write(const atomic_file *f, const void *data, uint64_t bytes, uint64_t offset)
{
    const char *at = data;
    while (bytes) {
        ssize_t n = pwrite(f->fd, at, bytes < WRITE_MAX ? bytes : WRITE_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        at += n;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
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

odmoe_status atomic_file_error(const atomic_file *f, int error, odmoe_error *err)
{
    return failed(f->named, error, err);
}

static int give_name(const atomic_file *f)
{
    char link[PROC_LINK_MAX];
    proc_link(f->fd, link);
    return linkat(AT_FDCWD, link, AT_FDCWD, f->partial, AT_SYMLINK_FOLLOW) ? errno : 0;
}

odmoe_status atomic_file_finish(atomic_file *f, int error, odmoe_error *err)
{
    if (!error && fsync(f->fd))
        error = errno;
    if (!error && f->nameless) {
        error = give_name(f);
        f->nameless = error;
    }
    if (close(f->fd) && !error)
        error = errno;
    if (!error && rename(f->partial, f->target))
        error = errno;
    if (!error)
        error = sync_folder(f->target);
    else if (!f->nameless)
        unlink(f->partial);
    odmoe_status status = error ? failed(f->named, error, err) : ODMOE_OK;
    forget(f);
    return status;
}

void atomic_file_drop(atomic_file *f)
{
    atomic_file_finish(f, ECANCELED, NULL);
}
