/* The input is the tokenizer.json of a folder: open it, encode and decode. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz_text.h"

#define INPUT_FD 900 /* the file of the folder is a link to it */

static char folder[256], path[512];

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    odmoe_error err = {0};
    tokenizer *t;
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/odmoe-fuzz-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(folder) || atexit(remove_folder))
            abort();
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        if (symlink("/proc/self/fd/900", path))
            abort();
    }
    int fd = fuzz_file(data, size);
    if (dup2(fd, INPUT_FD) < 0)
        abort();
    close(fd);
    int status = tokenizer_open(folder, &t, &err);
    fuzz_check_error(status, &err);
    if (!status) {
        fuzz_use_tokenizer(t);
        tokenizer_free(t);
    }
    close(INPUT_FD);
    return 0;
}
