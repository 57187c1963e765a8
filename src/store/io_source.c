/* io_source.c - opening the files that hold experts, and choosing the back end that can read them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/io.h"
#include "store/schedule.h"

static int depth_for(io_mode mode, int asked)
{
    int depth = asked > 0 ? asked : mode == IO_PREAD || mode == IO_BUFFERED ? SCHEDULE_DEPTH_POOL : SCHEDULE_DEPTH_RING;
    return depth < SCHEDULE_DEPTH_MAX ? depth : SCHEDULE_DEPTH_MAX;
}

int io_depth_of(const store_options *options)
{
    return depth_for(options->io, options->io_depth);
}

uint64_t io_heap_bytes(const store_options *options)
{
    if (options->io_override)
        return options->io_override->heap_bytes ? options->io_override->heap_bytes(io_depth_of(options)) : 0;
    uint64_t ring = io_uring_backend.heap_bytes(depth_for(IO_URING, options->io_depth));
    uint64_t threads = io_pread.heap_bytes(depth_for(IO_PREAD, options->io_depth));
    return options->io == IO_URING ? ring : options->io == IO_AUTO && ring > threads ? ring : threads;
}

static void close_files(io_source *s)
{
    for (int i = 0; i < s->files; i++) {
        if (s->file[i].fd >= 0)
            close(s->file[i].fd);
        s->file[i].fd = -1;
    }
}

void io_source_close(io_source *s)
{
    if (s->handle)
        s->io->close(s->handle);
    close_files(s);
    free(s->file);
    *s = (io_source){0};
}

static odmoe_status list_files(io_source *s, const expert_index *index, const tensor_index *tensors, odmoe_error *err)
{
    int files = tensor_index_files(tensors);
    s->file = mem_calloc((size_t)files, sizeof *s->file, "the list of files", err);
    if (!s->file)
        return ODMOE_ERR_MEMORY;
    s->files = files;
    for (int i = 0; i < files; i++)
        s->file[i] = (io_file){.fd = -1, .size = tensor_index_file_size(tensors, i)};
    for (int l = 0; l < expert_index_layers(index); l++)
        for (int e = 0; e < expert_index_experts(index); e++) {
            int n;
            const expert_extent *p = expert_index_extents(index, l, e, &n);
            for (int i = 0; i < n; i++) {
                if (p[i].file >= files || p[i].offset + p[i].length > s->file[p[i].file].size)
                    return err_set(err, ODMOE_ERR_FORMAT, "layer %d, expert %d: an extent lies outside the files", l,
                                   e);
                s->file[p[i].file].path = tensor_index_path(tensors, p[i].file);
            }
        }
    return ODMOE_OK;
}

static odmoe_status no_direct(const char *path, const char *why, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_UNSUPPORTED,
                   "%s: the file system refuses direct reads (%s); use --io buffered or auto", path, why);
}

/* Can this file be read past the page cache in steps of LAYOUT_ALIGN? Asks statx, then reads one block: some file systems
 * accept the flag and refuse the read. */
static odmoe_status check_direct(const io_file *f, odmoe_error *err)
{
#ifdef STATX_DIOALIGN
    struct statx st;
    if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) && (st.stx_mask & STATX_DIOALIGN) &&
        (!st.stx_dio_offset_align || LAYOUT_ALIGN % st.stx_dio_offset_align || LAYOUT_ALIGN % st.stx_dio_mem_align))
        return no_direct(f->path, st.stx_dio_offset_align ? "it needs a larger alignment" : "by statx", err);
#endif
    _Alignas(LAYOUT_ALIGN) char block[LAYOUT_ALIGN];
    ssize_t got;
    do
        got = pread(f->fd, block, sizeof block, 0);
    while (got < 0 && (errno == EINTR || errno == EAGAIN));
    if (got < 0 && errno == EINVAL)
        return no_direct(f->path, strerror(errno), err);
    return got < 0 ? err_set(err, ODMOE_ERR_IO, "%s: %s", f->path, strerror(errno)) : ODMOE_OK;
}

static odmoe_status open_files(io_source *s, bool direct, odmoe_error *err)
{
    odmoe_status status = ODMOE_OK;
    for (int i = 0; i < s->files && !status; i++) {
        io_file *f = &s->file[i];
        if (!f->path)
            continue;
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (f->fd < 0 && direct && errno == EINVAL)
            status = no_direct(f->path, strerror(errno), err);
        else if (f->fd < 0)
            status = err_set(err, ODMOE_ERR_IO, "%s: %s", f->path, strerror(errno));
        else if (direct)
            status = check_direct(f, err);
        else
            posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM); /* no read-ahead: it would be dropped again */
    }
    if (status)
        close_files(s);
    return status;
}

static odmoe_status start(io_source *s, const store_io *io, int depth, odmoe_error *err)
{
    s->io = io;
    s->depth = depth;
    return io->open(io, s->file, s->files, depth, &s->handle, err);
}

static odmoe_status try_mode(io_source *s, io_mode mode, int depth, odmoe_error *err)
{
    static const store_io *const backend[] = {
        [IO_URING] = &io_uring_backend, [IO_PREAD] = &io_pread, [IO_BUFFERED] = &io_buffered};
    odmoe_status status = open_files(s, mode != IO_BUFFERED, err);
    if (!status && (status = start(s, backend[mode], depth_for(mode, depth), err)))
        close_files(s);
    return status;
}

odmoe_status io_source_open(io_source *s, const expert_index *index, const tensor_index *tensors, io_mode mode,
                            int depth, const store_io *override, odmoe_error *err)
{
    *s = (io_source){0};
    odmoe_status status = list_files(s, index, tensors, err);
    if (status)
        return status;
    if (override)
        return start(s, override, depth_for(mode, depth), err);
    if (mode != IO_AUTO)
        return try_mode(s, mode, depth, err);
    for (io_mode m = IO_URING; m <= IO_BUFFERED; m++) {
        status = try_mode(s, m, depth, err);
        if (status != ODMOE_ERR_UNSUPPORTED && status != ODMOE_ERR_MEMORY)
            break;
    }
    return status;
}
