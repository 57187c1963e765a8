#include <stdio.h>
#include <string.h>

#include "api/handles.h"
#include "base/cpu.h"
#include "base/sysmem.h"
#include "store/policy.h"

#define THREADS_MAX 256
#define LOGITS_ROWS_MAX 64
#define LOGITS_ROWS_DEFAULT 16
#define CHUNK_MAX (1 << 20)
#define RESERVE_MAX (1ull << 60) /* sums of a few of these cannot overflow */

void odmoe_options_init(odmoe_options *options)
{
    *options = (odmoe_options){.size = sizeof *options, .sessions = 1};
}

odmoe_status copy_in(void *to, const void *from, size_t bytes, const char *what, odmoe_error *err)
{
    size_t size;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return err_set(err, ODMOE_ERR_ARG, "a struct's size is %zu: call %s before setting its fields", size, what);
    memcpy(to, from, size < bytes ? size : bytes);
    return ODMOE_OK;
}

void copy_out(void *to, const void *from, size_t bytes)
{
    size_t room;
    memcpy(&room, to, sizeof room);
    if (room > sizeof room)
        memcpy((char *)to + sizeof room, (const char *)from + sizeof room, (room < bytes ? room : bytes) - sizeof room);
}

/* The index of `name` in names, or -1. */
static int find_name(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i]))
            return i;
    return -1;
}

odmoe_status options_kernels(const char *name, const struct kernel_table **out, odmoe_error *err)
{
    *out = compute_kernels_find(name);
    if (*out)
        return ODMOE_OK;
    char list[128] = "auto";
    for (int i = 0; compute_kernels_at(i); i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s", compute_kernels_name(compute_kernels_at(i)));
    }
    static const char *const known[] = {"ref", "avx2", "avx512", "neon", "neon-dot"};
    bool exists = find_name(name, known, (int)(sizeof known / sizeof *known)) >= 0;
    return err_set(err, exists ? ODMOE_ERR_UNSUPPORTED : ODMOE_ERR_ARG, "kernels '%.32s' %s; this machine has %s", name,
                   exists ? "don't run on this processor" : "are not known", list);
}

odmoe_status options_io(const char *name, io_mode *out, odmoe_error *err)
{
    static const char *const names[] = {"auto", "uring", "pread", "buffered"};
    int io = name ? find_name(name, names, 4) : IO_AUTO;
    if (io < 0)
        return err_set(err, ODMOE_ERR_ARG, "io '%.32s' is not known; there are auto, uring, pread, buffered", name);
    *out = (io_mode)io;
    return ODMOE_OK;
}

static odmoe_status resolve_names(const odmoe_options *o, model_settings *out, odmoe_error *err)
{
    static const char *const kv_names[KV_COUNT] = {"f32", "f16", "q8_0"};
    odmoe_status status = options_kernels(o->kernels, &out->kernels, err);
    if (!status)
        status = options_io(o->io, &out->io, err);
    if (status)
        return status;
    int kv = o->kv ? find_name(o->kv, kv_names, KV_COUNT)
                   : (strcmp(compute_kernels_name(out->kernels), "ref") ? KV_F16 : KV_F32);
    if (kv < 0)
        return err_set(err, ODMOE_ERR_ARG, "KV cache type '%.32s' is not known; there are f32, f16, q8_0", o->kv);
    out->kv = (kv_type)kv;
    static const char *const prefetch_names[] = {"off", "auto"};
    int mode = o->prefetch ? find_name(o->prefetch, prefetch_names, 2) : 1;
    if (mode < 0)
        return err_set(err, ODMOE_ERR_ARG, "prefetch '%.32s' is not known; there are off, auto", o->prefetch);
    out->prefetch = mode == 1;
    static const char *const embeddings_names[] = {"auto", "memory", "disk"};
    int place = o->embeddings ? find_name(o->embeddings, embeddings_names, 3) : EMBEDDINGS_AUTO;
    if (place < 0)
        return err_set(err, ODMOE_ERR_ARG, "embeddings '%.32s' is not known; there are auto, memory, disk",
                       o->embeddings);
    out->embeddings = (embeddings_place)place;
    out->policy = o->policy ? o->policy : "auto";
    const policy_ops *found;
    return policy_find(out->policy, &found, err);
}

static odmoe_status check_range(const char *what, int32_t value, int32_t max, odmoe_error *err)
{
    if (value < 0 || value > max)
        return err_set(err, ODMOE_ERR_RANGE, "%s: %d is out of range (up to %d)", what, value, max);
    return ODMOE_OK;
}

odmoe_status options_resolve(const odmoe_options *source, model_settings *out, odmoe_error *err)
{
    odmoe_options o;
    odmoe_options_init(&o);
    odmoe_status status = source ? copy_in(&o, source, sizeof o, "odmoe_options_init", err) : ODMOE_OK;
    if (status)
        return status;
    *out = (model_settings){.reserve_bytes = o.reserve_bytes,
                            .prefix_bytes = o.prefix_bytes,
                            .snapshots = o.snapshots ? o.snapshots : SNAPSHOTS_DEFAULT,
                            .context = o.context,
                            .sessions = o.sessions,
                            .threads = o.threads,
                            .chunk = o.chunk,
                            .logits_rows = o.logits_rows ? o.logits_rows : LOGITS_ROWS_DEFAULT,
                            .progress = o.progress,
                            .user = o.user};
    status = check_range("threads", o.threads, THREADS_MAX, err);
    if (!status)
        status = check_range("context", o.context, MODEL_CONTEXT_MAX, err);
    if (!status)
        status = check_range("chunk", o.chunk, CHUNK_MAX, err);
    if (!status)
        status = check_range("logits_rows", o.logits_rows, LOGITS_ROWS_MAX, err);
    if (!status && (o.sessions < 1 || o.sessions > 4096))
        status = err_set(err, ODMOE_ERR_RANGE, "sessions: %d is out of range (1 to 4096)", o.sessions);
    if (!status && o.reserve_bytes > RESERVE_MAX)
        status = err_set(err, ODMOE_ERR_RANGE, "reserve_bytes: %llu is out of range (up to 2^60)",
                         (unsigned long long)o.reserve_bytes);
    if (!status && o.prefix_bytes > RESERVE_MAX)
        status = err_set(err, ODMOE_ERR_RANGE, "prefix_bytes: %llu is out of range (up to 2^60)",
                         (unsigned long long)o.prefix_bytes);
    if (!status)
        status = check_range("snapshots", o.snapshots, SNAPSHOTS_MAX, err);
    if (!status)
        status = resolve_names(&o, out, err);
    if (status)
        return status;
    if (!o.threads)
        out->threads = cpu_default_threads("", NULL, 0);
    out->ram_bytes = o.ram_bytes;
    if (!o.ram_bytes) {
        uint64_t available;
        status = sysmem_available("", &available, err);
        if (status)
            return status;
        out->ram_bytes = available / 4 * 3;
    }
    return ODMOE_OK;
}

const char *odmoe_kernels_at(int i)
{
    const struct kernel_table *k = compute_kernels_at(i);
    return k ? compute_kernels_name(k) : NULL;
}

const char *odmoe_io_at(int i)
{
    static const char *const names[] = {"uring", "pread", "buffered"};
    return i >= 0 && i < 3 ? names[i] : NULL;
}

const char *odmoe_policy_at(int i)
{
    const policy_ops *p = policy_at(i);
    return p ? p->name : NULL;
}

const char *odmoe_family_at(int i)
{
    const arch *a = arch_at(i);
    return a ? a->family : NULL;
}
