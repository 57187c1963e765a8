/* fake_tree.h - a directory with files as /proc, /sys and cgroups have them, for code that takes a root. */
#ifndef FAKE_TREE_H
#define FAKE_TREE_H

#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new empty directory; fake_end removes it and what is in it. */
static char *fake_begin(void)
{
    char *root = strdup("/tmp/odmoe-fake-XXXXXX");
    assert_non_null(mkdtemp(root));
    return root;
}

static int fake_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void fake_end(char *root)
{
    nftw(root, fake_remove, 16, FTW_DEPTH | FTW_PHYS);
    free(root);
}

/* Write root/path, folders on the way included. */
static void fake_file(const char *root, const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#endif
