#include "prefix_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "thread.h"

#define PATIENCE 5        /* seconds that writing waits for passes that read */
#define DISK_FREE_PART 20 /* of the disk, stays free */
#define SHORT_TOKENS 1024 /* what a file costs besides its bytes, in tokens */
#define HALF_LIFE 64
#define INDEX_BLOCKS_MAX (1 << 19) /* 4 MiB of hashes: 8 Mi tokens */

static const char ending[] = ".prefix";
enum { NAME_LENGTH = 16 + 1 + 16 + sizeof ending - 1 };

typedef struct file {
    uint64_t name; /* hash of the tokens */
    int32_t tokens;
    uint64_t bytes, used;
    uint64_t *blocks; /* [tokens / PREFIX_BLOCK] hash of the tokens up to each */
} file;

struct prefix_files {
    prefix_files_options options;
    char folder[PATH_MAX];
    uint64_t fingerprint;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool thread_runs, stop, reading;
    bool full_said; /* the line about a full disk is in the log */
    file *files;    /* [n] */
    size_t n, room;
    uint64_t blocks, clock;
    odmoe_session *saves[PREFIX_SAVES_MAX];
    int saves_waiting; /* in `saves` */
    int saving;        /* those, and the one under way */
    prefix_load *first, *last;
    prefix_files_stats stats;
};

double prefix_worth(int32_t tokens, uint64_t bytes, uint64_t age)
{
    double share = (double)tokens / ((double)tokens + SHORT_TOKENS);
    return (double)tokens * share / (double)(bytes ? bytes : 1) * exp2(-(double)age / HALF_LIFE);
}

static odmoe_status io_error(odmoe_error *err, const char *path, const char *what)
{
    if (err) {
        err->code = ODMOE_ERR_IO;
        snprintf(err->message, sizeof err->message, "%.300s: %s", path, what);
    }
    return ODMOE_ERR_IO;
}

static odmoe_status no_memory(odmoe_error *err)
{
    if (err)
        *err = (odmoe_error){ODMOE_ERR_MEMORY, "no memory for the list of prefixes"};
    return ODMOE_ERR_MEMORY;
}

static void say(prefix_files *f, const char *line)
{
    if (f->options.log)
        f->options.log(f->options.log_user, line);
}

/* ---- hashes ---- */

/* Of the tokens up to each block's end into blocks [n / PREFIX_BLOCK]; returns that of all. */
static uint64_t hash_tokens(const int32_t *tokens, int32_t n, uint64_t *blocks)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (int32_t i = 0; i < n; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
        if (blocks && (i + 1) % PREFIX_BLOCK == 0)
            blocks[i / PREFIX_BLOCK] = h;
    }
    return h;
}

/* NULL: no memory. */
static uint64_t *blocks_of(const int32_t *tokens, int32_t n, uint64_t *name)
{
    uint64_t *blocks = malloc(((size_t)n / PREFIX_BLOCK + 1) * sizeof *blocks);
    if (blocks)
        *name = hash_tokens(tokens, n, blocks);
    return blocks;
}

/* Blocks that both begin with. */
static int32_t common_blocks(const file *e, const uint64_t *blocks, int32_t n)
{
    int32_t low = 0, high = e->tokens / PREFIX_BLOCK;
    high = high < n ? high : n;
    while (low < high) {
        int32_t mid = low + (high - low + 1) / 2;
        if (e->blocks[mid - 1] == blocks[mid - 1])
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

/* ---- the index; the lock is held ---- */

static file *find_name(prefix_files *f, uint64_t name)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->files[i].name == name)
            return &f->files[i];
    return NULL;
}

static void forget(prefix_files *f, file *e)
{
    f->stats.entries--;
    f->stats.bytes -= e->bytes;
    f->blocks -= (uint64_t)e->tokens / PREFIX_BLOCK;
    free(e->blocks);
    *e = f->files[--f->n];
}

/* Owns e->blocks; false: no memory. */
static bool remember(prefix_files *f, file e)
{
    if (f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 16;
        file *more = realloc(f->files, room * sizeof *more);
        if (!more) {
            free(e.blocks);
            return false;
        }
        f->files = more;
        f->room = room;
    }
    f->files[f->n++] = e;
    f->stats.entries++;
    f->stats.bytes += e.bytes;
    f->blocks += (uint64_t)e.tokens / PREFIX_BLOCK;
    return true;
}

static void path_of(const prefix_files *f, uint64_t name, char path[PATH_MAX + 64])
{
    snprintf(path, PATH_MAX + 64, "%s/%016llx-%016llx%s", f->folder, (unsigned long long)f->fingerprint,
             (unsigned long long)name, ending);
}

/* Take the file that is worth least out of the index; its name. False: there is none. */
static bool evict(prefix_files *f, uint64_t *name)
{
    file *least = NULL;
    double worth = 0;
    for (size_t i = 0; i < f->n; i++) {
        const file *e = &f->files[i];
        double own = prefix_worth(e->tokens, e->bytes, f->clock - e->used);
        if (!least || own < worth) {
            least = &f->files[i];
            worth = own;
        }
    }
    if (!least)
        return false;
    *name = least->name;
    forget(f, least);
    f->stats.evictions++;
    return true;
}

/* ---- looking ---- */

int32_t prefix_files_find(prefix_files *f, const int32_t *tokens, int32_t n, uint64_t *name)
{
    uint64_t own;
    uint64_t *blocks = blocks_of(tokens, n, &own);
    int32_t most = 0;
    if (!blocks)
        return 0;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->n; i++) {
        int32_t common = common_blocks(&f->files[i], blocks, n / PREFIX_BLOCK);
        if (common > most) {
            most = common;
            *name = f->files[i].name;
        }
    }
    pthread_mutex_unlock(&f->lock);
    free(blocks);
    return most * PREFIX_BLOCK;
}

bool prefix_files_covers(prefix_files *f, const int32_t *tokens, int32_t n)
{
    uint64_t name;
    return prefix_files_find(f, tokens, n, &name) == n / PREFIX_BLOCK * PREFIX_BLOCK;
}

void prefix_files_stats_get(prefix_files *f, prefix_files_stats *out)
{
    pthread_mutex_lock(&f->lock);
    *out = f->stats;
    pthread_mutex_unlock(&f->lock);
}

/* ---- writing ---- */

/* Does the disk keep its free part when so many bytes more are written? */
static bool disk_has_room(const prefix_files *f, uint64_t bytes)
{
    struct statvfs disk;
    if (statvfs(f->folder, &disk))
        return true; /* then writing says what is wrong */
    uint64_t left = (uint64_t)disk.f_bavail * disk.f_frsize, all = (uint64_t)disk.f_blocks * disk.f_frsize;
    return left >= bytes && left - bytes >= all / DISK_FREE_PART;
}

/* Room for a file of so many bytes and blocks. False: there is none, also without the other files. */
static bool make_room(prefix_files *f, uint64_t bytes, uint64_t blocks)
{
    char path[PATH_MAX + 64], line[128];
    int evicted = 0;
    bool enough = bytes <= f->options.bytes && blocks <= INDEX_BLOCKS_MAX;
    while (enough) {
        uint64_t name;
        bool disk = disk_has_room(f, bytes);
        pthread_mutex_lock(&f->lock);
        bool done = disk && f->stats.bytes + bytes <= f->options.bytes && f->blocks + blocks <= INDEX_BLOCKS_MAX;
        enough = done || evict(f, &name);
        pthread_mutex_unlock(&f->lock);
        if (done || !enough)
            break;
        path_of(f, name, path);
        unlink(path);
        evicted++;
    }
    snprintf(line, sizeof line, "prefixes: removed %d files to make room", evicted);
    if (evicted)
        say(f, line);
    return enough;
}

/* The first file that the new one begins with, and so makes useless. The lock is held. NULL: none. */
static file *find_shorter(prefix_files *f, const file *fresh)
{
    for (size_t i = 0; i < f->n; i++) {
        file *e = &f->files[i];
        int32_t blocks = e->tokens / PREFIX_BLOCK;
        if (e->tokens <= fresh->tokens && common_blocks(e, fresh->blocks, fresh->tokens / PREFIX_BLOCK) == blocks)
            return e;
    }
    return NULL;
}

/* Put a new file into the index, in place of those that it begins with. */
static void enter(prefix_files *f, file fresh)
{
    char path[PATH_MAX + 64];
    bool more = true;
    while (more) {
        pthread_mutex_lock(&f->lock);
        file *e = find_shorter(f, &fresh);
        more = e != NULL;
        uint64_t name = more ? e->name : fresh.name;
        if (more)
            forget(f, e);
        pthread_mutex_unlock(&f->lock);
        path_of(f, name, path);
        if (name != fresh.name)
            unlink(path);
    }
    pthread_mutex_lock(&f->lock);
    fresh.used = ++f->clock;
    bool ok = remember(f, fresh);
    f->stats.saves++;
    f->full_said = false;
    pthread_mutex_unlock(&f->lock);
    path_of(f, fresh.name, path);
    if (!ok)
        unlink(path);
}

static void save_failed(prefix_files *f, const char *why)
{
    char line[ODMOE_ERROR_MESSAGE_MAX + 64];
    pthread_mutex_lock(&f->lock);
    f->stats.failures++;
    bool said = f->full_said;
    f->full_said = true;
    pthread_mutex_unlock(&f->lock);
    snprintf(line, sizeof line, "prefixes: not saved: %s", why);
    if (!said)
        say(f, line);
}

static uint64_t bytes_expected(const prefix_files *f, int32_t tokens)
{
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(f->options.model, &plan);
    double token = (double)plan.kv_bytes / plan.sessions / plan.context;
    return (uint64_t)(token * tokens) + (64u << 10);
}

static void save(prefix_files *f, const odmoe_session *s)
{
    char path[PATH_MAX + 64];
    odmoe_error why;
    struct stat st;
    file fresh = {.tokens = odmoe_session_length(s)};
    const int32_t *tokens = odmoe_session_tokens(s);
    if (fresh.tokens < PREFIX_TOKENS_MIN || prefix_files_covers(f, tokens, fresh.tokens))
        return;
    fresh.blocks = blocks_of(tokens, fresh.tokens, &fresh.name);
    if (!fresh.blocks)
        return;
    path_of(f, fresh.name, path);
    if (!make_room(f, bytes_expected(f, fresh.tokens), (uint64_t)fresh.tokens / PREFIX_BLOCK)) {
        save_failed(f, "neither the disk nor --cache-disk has room for it");
    } else if (odmoe_session_save(s, path, &why)) {
        save_failed(f, why.message);
    } else if (chmod(path, 0600) || stat(path, &st)) {
        save_failed(f, strerror(errno));
        unlink(path);
    } else {
        fresh.bytes = (uint64_t)st.st_size;
        enter(f, fresh);
        return;
    }
    free(fresh.blocks);
}

bool prefix_files_save(prefix_files *f, odmoe_session *fork)
{
    pthread_mutex_lock(&f->lock);
    bool taken = f->saving < PREFIX_SAVES_MAX && !f->stop;
    if (taken) {
        f->saves[f->saves_waiting++] = fork;
        f->saving++;
        pthread_cond_signal(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return taken;
}

void prefix_files_save_now(prefix_files *f, const odmoe_session *session)
{
    save(f, session);
}

int prefix_files_saving(prefix_files *f)
{
    pthread_mutex_lock(&f->lock);
    int n = f->saving;
    pthread_mutex_unlock(&f->lock);
    return n;
}

void prefix_files_reading(prefix_files *f, bool reading)
{
    pthread_mutex_lock(&f->lock);
    if (f->reading && !reading)
        pthread_cond_signal(&f->changed);
    f->reading = reading;
    pthread_mutex_unlock(&f->lock);
}

/* ---- reading ---- */

void prefix_files_load(prefix_files *f, prefix_load *load)
{
    atomic_store(&load->state, LOAD_WAITS);
    load->next = NULL;
    pthread_mutex_lock(&f->lock);
    *(f->last ? &f->last->next : &f->first) = load;
    f->last = load;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void damaged(prefix_files *f, const char *path, const char *why)
{
    char line[ODMOE_ERROR_MESSAGE_MAX + 64];
    unlink(path);
    snprintf(line, sizeof line, "prefixes: removed %s", why);
    say(f, line);
}

static void load_file(prefix_files *f, prefix_load *load)
{
    char path[PATH_MAX + 64];
    odmoe_error why;
    path_of(f, load->name, path);
    odmoe_status status = odmoe_session_load(load->into, path, &why);
    if (status == ODMOE_ERR_FORMAT)
        damaged(f, path, why.message);
    pthread_mutex_lock(&f->lock);
    file *e = find_name(f, load->name);
    if (status) {
        f->stats.failures++;
        if (e && (status == ODMOE_ERR_FORMAT || status == ODMOE_ERR_IO))
            forget(f, e);
    } else {
        f->stats.loads++;
        if (e)
            e->used = ++f->clock;
    }
    pthread_mutex_unlock(&f->lock);
    if (!status)
        utimensat(AT_FDCWD, path, NULL, 0); /* the order of use outlives the process */
    atomic_store(&load->state, status ? LOAD_FAILED : LOAD_DONE);
}

/* ---- the thread ---- */

/* Sleep until there is something to do; the lock is held. False: it is time to end. */
static bool wait_for_work(prefix_files *f)
{
    while (!f->first && !f->saves_waiting && !f->stop)
        pthread_cond_wait(&f->changed, &f->lock);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE;
    int late = 0;
    while (!f->first && f->reading && !f->stop && !late)
        late = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    return f->first || f->saves_waiting;
}

static void *run(void *user)
{
    prefix_files *f = user;
    pthread_mutex_lock(&f->lock);
    while (wait_for_work(f)) {
        prefix_load *load = f->first;
        odmoe_session *fork = NULL;
        if (load) {
            f->first = load->next;
            if (!f->first)
                f->last = NULL;
        } else {
            fork = f->saves[0];
            f->saves_waiting--;
            memmove(f->saves, f->saves + 1, (size_t)f->saves_waiting * sizeof *f->saves);
        }
        pthread_mutex_unlock(&f->lock);
        if (load) {
            load_file(f, load);
        } else {
            save(f, fork);
            odmoe_session_free(fork);
        }
        pthread_mutex_lock(&f->lock);
        f->saving -= !load;
        pthread_mutex_unlock(&f->lock);
        f->options.done(f->options.user);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- opening ---- */

static odmoe_status open_folder(prefix_files *f, odmoe_error *err)
{
    struct stat st;
    if (mkdir(f->folder, 0700) && errno != EEXIST)
        return io_error(err, f->folder, strerror(errno));
    if (stat(f->folder, &st))
        return io_error(err, f->folder, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return io_error(err, f->folder, "is no folder");
    if (st.st_uid != geteuid() || st.st_mode & 077)
        return io_error(err, f->folder, "prefixes hold prompts, and others may read this folder: chmod 700 it");
    return ODMOE_OK;
}

/* A file of this model as the folder lists it; into the index, unless it is not what its name says. */
static odmoe_status take_file(prefix_files *f, uint64_t name, int32_t *tokens, const struct stat *st, odmoe_error *err)
{
    char path[PATH_MAX + 64];
    odmoe_error why;
    size_t n;
    path_of(f, name, path);
    odmoe_status status = odmoe_session_peek(f->options.model, path, tokens, (size_t)f->options.context, &n, &why);
    if (status == ODMOE_ERR_FORMAT)
        damaged(f, path, why.message);
    if (status || n > (size_t)f->options.context || n < PREFIX_TOKENS_MIN)
        return ODMOE_OK;
    file e = {.tokens = (int32_t)n, .bytes = (uint64_t)st->st_size};
    e.used = (uint64_t)st->st_mtime;
    e.blocks = blocks_of(tokens, e.tokens, &e.name);
    if (!e.blocks)
        return no_memory(err);
    if (e.name != name) {
        free(e.blocks);
        damaged(f, path, "a file whose tokens are not those of its name");
        return ODMOE_OK;
    }
    return remember(f, e) ? ODMOE_OK : no_memory(err);
}

static int by_use(const void *a, const void *b)
{
    const file *x = a, *y = b;
    return x->used < y->used ? -1 : x->used > y->used;
}

static odmoe_status list_folder(prefix_files *f, odmoe_error *err)
{
    DIR *folder = opendir(f->folder);
    int32_t *tokens = malloc((size_t)f->options.context * sizeof *tokens);
    odmoe_status status = folder ? ODMOE_OK : io_error(err, f->folder, strerror(errno));
    if (!status && !tokens)
        status = no_memory(err);
    int foreign = 0;
    for (struct dirent *d; !status && (d = readdir(folder));) {
        unsigned long long model, name;
        struct stat st;
        if (strlen(d->d_name) != NAME_LENGTH || strcmp(d->d_name + NAME_LENGTH - strlen(ending), ending) ||
            sscanf(d->d_name, "%16llx-%16llx", &model, &name) != 2 ||
            fstatat(dirfd(folder), d->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue;
        if (model == f->fingerprint)
            status = take_file(f, name, tokens, &st, err);
        else
            foreign++;
    }
    if (folder)
        closedir(folder);
    free(tokens);
    if (f->n)
        qsort(f->files, f->n, sizeof *f->files, by_use);
    for (size_t i = 0; i < f->n; i++)
        f->files[i].used = ++f->clock;
    if (foreign) {
        char line[128];
        snprintf(line, sizeof line, "prefixes: left %d files of other models alone", foreign);
        say(f, line);
    }
    return status;
}

odmoe_status prefix_files_open(const prefix_files_options *options, prefix_files **out, odmoe_error *err)
{
    prefix_files *f = calloc(1, sizeof *f);
    if (!f)
        return no_memory(err);
    f->options = *options;
    f->fingerprint = odmoe_model_fingerprint(options->model);
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    odmoe_status status = strlen(options->folder) < sizeof f->folder
                              ? ODMOE_OK
                              : io_error(err, options->folder, "the name of the folder is too long");
    if (!status) {
        strcpy(f->folder, options->folder);
        status = open_folder(f, err);
    }
    if (!status)
        status = list_folder(f, err);
    if (!status) {
        f->thread_runs = thread_start(&f->thread, run, f);
        if (!f->thread_runs)
            status = no_memory(err);
    }
    if (status)
        prefix_files_close(f);
    else
        *out = f;
    return status;
}

void prefix_files_close(prefix_files *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (f->thread_runs)
        pthread_join(f->thread, NULL);
    for (size_t i = 0; i < f->n; i++)
        free(f->files[i].blocks);
    free(f->files);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}
