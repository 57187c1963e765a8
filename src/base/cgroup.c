#include "base/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest path that is followed: those of control groups are far below it, and the stack of a caller's thread may be
 * small. A mount or group with a longer one counts as not there. */
#define GROUP_PATH 1024

bool read_text(const char *dir, const char *name, char *text, size_t size)
{
    char path[GROUP_PATH];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, size - 1, f);
    text[n] = 0;
    fclose(f);
    return true;
}

static bool parse_number(const char *text, uint64_t *number)
{
    while (*text == ' ' || *text == '\t')
        text++;
    if (*text < '0' || *text > '9')
        return false;
    *number = strtoull(text, NULL, 10); /* saturates, which is what a limit of "more than everything" should do */
    return true;
}

bool read_number(const char *dir, const char *name, uint64_t *number)
{
    char text[64];
    return read_text(dir, name, text, sizeof text) && parse_number(text, number);
}

bool text_field(const char *text, const char *key, uint64_t *number)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, length) && (line[length] == ' ' || line[length] == '\t' || key[length - 1] == ':'))
            return parse_number(line + length, number);
    }
    return false;
}

/* Is `word` one of the comma-separated words of list[0, length)? */
static bool has_word(const char *list, size_t length, const char *word)
{
    size_t want = strlen(word);
    for (const char *end = list + length; list < end;) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        size_t n = (size_t)((comma ? comma : end) - list);
        if (n == want && !memcmp(list, word, n))
            return true;
        list += n + 1;
    }
    return false;
}

/* The process's path in the hierarchy of `controller` (v1) or in the unified one (controller NULL), from
 * /proc/self/cgroup: lines "number:controllers:path", "0::path" for v2. */
static bool own_path(const char *root, const char *controller, char *path, size_t size)
{
    char file[GROUP_PATH], line[GROUP_PATH + 256];
    snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    FILE *f = fopen(file, "re");
    if (!f)
        return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *list = strchr(line, ':');
        char *own = list ? strchr(list + 1, ':') : NULL;
        if (!own)
            continue;
        size_t length = (size_t)(own - list - 1);
        if (controller ? has_word(list + 1, length, controller) : length == 0)
            found = snprintf(path, size, "%s", own + 1) < (int)size;
    }
    fclose(f);
    return found;
}

/* mountinfo writes blanks, line ends and backslashes as \040 and the like. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        bool octal = *from == '\\' && strspn(from + 1, "01234567") >= 3;
        *to = octal ? (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0')) : *from;
        from += octal ? 4 : 1;
    }
    *to = 0;
}

/* The part of `path` below a mount that shows the tree from `mount_root` on; NULL: path lies outside. */
static const char *below(const char *path, const char *mount_root)
{
    size_t hidden = strlen(mount_root);
    bool inside = !strncmp(path, mount_root, hidden) && (!path[hidden] || path[hidden] == '/');
    return inside && !strstr(path, "/..") ? path + hidden : NULL;
}

typedef struct mount_point {
    char root[GROUP_PATH], at[GROUP_PATH]; /* "" for "/" */
} mount_point;

/* The mount of a hierarchy that shows `path`, from /proc/self/mountinfo: "id parent dev ROOT MOUNT options ... - TYPE
 * source SUPER". There may be several, a host's whole tree beside the container's own; where none shows the path, the
 * one from the tree's top, or else the first. */
static bool find_mount(const char *root, const char *controller, const char *path, mount_point *out)
{
    char file[GROUP_PATH], line[2 * GROUP_PATH + 512];
    snprintf(file, sizeof file, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(file, "re");
    if (!f)
        return false;
    int best = 0;
    while (best < 3 && fgets(line, sizeof line, f)) {
        mount_point m;
        char type[64], super[512];
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %1023s %1023s", m.root, m.at) != 2 ||
            sscanf(rest, " - %63s %*s %511s", type, super) != 2)
            continue;
        if (controller ? strcmp(type, "cgroup") || !has_word(super, strlen(super), controller)
                       : strcmp(type, "cgroup2"))
            continue;
        if (strlen(m.root) == GROUP_PATH - 1 || strlen(m.at) == GROUP_PATH - 1)
            continue;
        unescape(m.root);
        unescape(m.at);
        if (!strcmp(m.root, "/"))
            m.root[0] = 0;
        int fit = below(path, m.root) ? 3 : !m.root[0] ? 2 : 1;
        if (fit > best) {
            best = fit;
            *out = m;
        }
    }
    fclose(f);
    return best > 0;
}

/* controller NULL: the unified hierarchy (v2), otherwise the v1 one. */
static void walk_hierarchy(const char *root, const char *controller, void (*visit)(const char *dir, bool v2, void *ctx),
                           void *ctx)
{
    char path[GROUP_PATH], dir[3 * GROUP_PATH];
    mount_point mount;
    if (!own_path(root, controller, path, sizeof path) || !find_mount(root, controller, path, &mount))
        return;
    /* A container may see only a part of the tree: where the path lies outside, the mount point itself is the nearest
     * group that can be seen. */
    const char *rest = below(path, mount.root);
    int top = snprintf(dir, sizeof dir, "%s%s", root, mount.at);
    snprintf(dir + top, sizeof dir - (size_t)top, "%s", rest && strcmp(rest, "/") ? rest : "");
    for (;;) {
        visit(dir, !controller, ctx);
        char *slash = strrchr(dir, '/');
        if (!dir[top] || !slash)
            return;
        *slash = 0;
    }
}

void cgroup_walk(const char *root, const char *controller, void (*visit)(const char *dir, bool v2, void *ctx),
                 void *ctx)
{
    walk_hierarchy(root, controller, visit, ctx);
    walk_hierarchy(root, NULL, visit, ctx);
}
