#include "out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "progress.h"

/* The file that `path` means, links followed, and its mode; a name that is free means itself. NULL: complained. */
static char *find_target(const char *path, mode_t *mode)
{
    struct stat st;
    char *target = NULL;
    if (lstat(path, &st)) { /* what else is wrong with the name is found when a file is created there */
        mode_t mask = umask(0);
        umask(mask);
        *mode = 0666 & ~mask;
        target = strdup(path);
    } else if (stat(path, &st)) {
        complain("%s: a link that leads to no file: %m; give the name of a file", path);
        return NULL;
    } else if (!S_ISREG(st.st_mode)) {
        complain("%s: is no regular file and is left as it is; give the name of a file", path);
        return NULL;
    } else {
        *mode = st.st_mode & 0777;
        target = realpath(path, NULL);
    }
    if (!target)
        complain("%s: cannot be written: %m", path);
    return target;
}

static char *volatile unfinished; /* the name that a signal has to remove */

/* Remove what is unfinished, then end as the signal would have ended the program (catch_ends). */
static void on_end(int signal_number)
{
    char *partial = unfinished;
    if (partial)
        unlink(partial);
    raise(signal_number);
}

bool out_file_open(out_file *f, const char *path)
{
    mode_t mode;
    *f = (out_file){.fd = -1, .path = path, .target = find_target(path, &mode)};
    if (!f->target)
        return false;
    size_t room = strlen(f->target) + sizeof ".XXXXXX";
    f->partial = must_alloc(room, 1);
    snprintf(f->partial, room, "%s.XXXXXX", f->target);
    f->fd = mkostemp(f->partial, O_CLOEXEC);
    if (f->fd >= 0) {
        fchmod(f->fd, mode); /* file systems without modes keep theirs */
        unfinished = f->partial;
        static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
        catch_ends(ends, sizeof ends / sizeof *ends, on_end);
        return true;
    }
    complain("%s: cannot be written: %m", path);
    free(f->target);
    free(f->partial);
    return false;
}

void out_file_write(out_file *f, const void *data, int64_t bytes, int64_t offset)
{
    const char *at = data;
    while (bytes > 0 && !f->error) {
        ssize_t n = pwrite(f->fd, at, (size_t)bytes, offset);
        if (n > 0) {
            at += n;
            bytes -= n;
            offset += n;
        } else if (n == 0 || errno != EINTR) {
            f->error = n == 0 ? EIO : errno;
        }
    }
}

bool out_file_close(out_file *f, bool keep)
{
    if (keep && !f->error && fsync(f->fd))
        f->error = errno;
    if (close(f->fd) && !f->error)
        f->error = errno;
    if (keep && !f->error && rename(f->partial, f->target))
        f->error = errno;
    if (!keep || f->error)
        unlink(f->partial);
    unfinished = NULL;
    if (keep && f->error)
        complain("%s: cannot be written: %s", f->path, strerror(f->error));
    free(f->target);
    free(f->partial);
    return keep && !f->error;
}
