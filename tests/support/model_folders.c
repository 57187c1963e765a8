#include "support/model_folders.h"

#include "format_files.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/golden.h"

/* Whole or in parts, with the index of the parts. */
static void link_weights(const char *from, const char *to)
{
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char inside[1200], target[1200];
        if (strncmp(e->d_name, "model", 5))
            continue;
        snprintf(inside, sizeof inside, "%s/%s", to, e->d_name);
        snprintf(target, sizeof target, "%s/%s", from, e->d_name);
        assert_int_equal(symlink(target, inside), 0);
    }
    closedir(d);
}

const char *changed_folder(const char *model, const char *members)
{
    static int made;
    char name[32];
    snprintf(name, sizeof name, "hf%d", made++);
    const char *path = temp_path(name);
    char inside[1200];
    assert_int_equal(mkdir(path, 0700), 0);
    link_weights(test_path("%s", model), path);
    json_error_t e;
    json_t *config = json_load_file(test_path("%s/config.json", model), 0, &e);
    json_t *changes = json_loads(members, JSON_ALLOW_NUL, &e);
    if (!config || !changes)
        fail_msg("%s", e.text);
    const char *key;
    json_t *value;
    json_object_foreach(changes, key, value)
    {
        if (json_is_null(value))
            json_object_del(config, key);
        else
            json_object_set(config, key, value);
    }
    snprintf(inside, sizeof inside, "%s/config.json", path);
    assert_int_equal(json_dump_file(config, inside, 0), 0);
    json_decref(config);
    json_decref(changes);
    return path;
}
