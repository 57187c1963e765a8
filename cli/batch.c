#include "batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

int batch_lines(json_t *(*answer)(const json_t *row))
{
    char *line = NULL;
    size_t capacity = 0;
    bool goes_out = true;
    for (ssize_t n; goes_out && (n = getline(&line, &capacity, stdin)) >= 0;) {
        json_error_t fault;
        json_t *row = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &fault);
        json_t *out =
            row ? answer(row) : json_pack("{s:s, s:s, s:i}", "error", "value", "message", fault.text, "line", 0);
        json_decref(row);
        goes_out =
            out && !json_dumpf(out, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) && putchar('\n') != EOF && flush_output();
        json_decref(out);
    }
    free(line);
    return goes_out ? STATUS_DONE : STATUS_FAILED;
}
