#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "progress.h"

#define BLOCK "\"\"\""

struct line_input {
    EditLine *edit; /* NULL: standard input is no terminal */
    History *history;
    const char *prompt;
    char *line; /* getline's, when not edited */
    size_t capacity;
};

static char *edit_prompt(EditLine *edit)
{
    line_input *in;
    el_get(edit, EL_CLIENTDATA, &in);
    return (char *)in->prompt;
}

line_input *line_input_open(void)
{
    line_input *in = must_alloc(1, sizeof *in);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return in;
    in->edit = el_init("odmoe", stdin, stdout, stderr);
    in->history = history_init();
    if (!in->edit || !in->history) {
        line_input_close(in);
        complain("the line editor could not be started");
        exit(STATUS_FAILED);
    }
    HistEvent event;
    history(in->history, &event, H_SETSIZE, 500);
    history(in->history, &event, H_SETUNIQUE, 1);
    el_set(in->edit, EL_CLIENTDATA, in);
    el_set(in->edit, EL_PROMPT, edit_prompt);
    el_set(in->edit, EL_EDITOR, "emacs");
    el_set(in->edit, EL_HIST, history, in->history);
    el_set(in->edit, EL_SIGNAL, 1); /* a signal finds the terminal as it was before, then gets its own handler */
    el_set(in->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return in;
}

void line_input_close(line_input *in)
{
    if (!in)
        return;
    if (in->edit)
        el_end(in->edit);
    if (in->history)
        history_end(in->history);
    free(in->line);
    free(in);
}

typedef enum line_result { LINE_READ, LINE_DROPPED, LINE_END } line_result;

/* The line's length without its end, which Windows writes as two characters. */
static size_t drop_end(char *line, size_t length)
{
    if (length == 0 || line[length - 1] != '\n')
        return length;
    length--;
    if (length > 0 && line[length - 1] == '\r')
        length--;
    line[length] = 0;
    return length;
}

/* One line without its end; it stays valid until the next. */
static line_result read_line(line_input *in, const char *prompt, char **line, size_t *length)
{
    if (!in->edit) {
        ssize_t got = getline(&in->line, &in->capacity, stdin);
        if (got < 0)
            return LINE_END;
        *line = in->line;
        *length = (size_t)got;
    } else {
        int got = 0;
        in->prompt = prompt;
        errno = 0;
        el_resize(in->edit); /* the window may have changed while the answer came */
        const char *text = el_gets(in->edit, &got);
        if (interrupted()) {
            interrupt_forget();
            el_reset(in->edit);
            putchar('\n');
            return LINE_DROPPED;
        }
        if (!text || got <= 0)
            return LINE_END;
        free(in->line);
        in->line = strndup(text, (size_t)got);
        if (!in->line)
            return LINE_END;
        *line = in->line;
        *length = (size_t)got;
    }
    *length = drop_end(*line, *length);
    return LINE_READ;
}

/* message += line[0, length), then a line end where another line follows */
static char *append(char *message, size_t *used, const char *line, size_t length, bool more)
{
    message = must_realloc(message, *used + length + 2, 1);
    memcpy(message + *used, line, length);
    *used += length;
    if (more)
        message[(*used)++] = '\n';
    message[*used] = 0;
    return message;
}

char *line_input_message(line_input *in)
{
    char *message = NULL, *line;
    size_t used = 0, length;
    bool block = false, more = true;
    while (more) {
        line_result result = read_line(in, message || block ? "... " : "> ", &line, &length);
        if (result == LINE_END) {
            if (in->edit)
                putchar('\n');
            return message; /* an unfinished message counts when the input ends */
        }
        if (result == LINE_DROPPED) {
            free(message);
            message = NULL;
            used = 0;
            block = false;
            continue;
        }
        if (!block && !message && !strncmp(line, BLOCK, strlen(BLOCK))) {
            block = true;
            line += strlen(BLOCK);
            length -= strlen(BLOCK);
            if (length == 0)
                continue;
        }
        char *end = block ? strstr(line, BLOCK) : NULL;
        if (end)
            length = (size_t)(end - line);
        bool backslash = !block && length > 0 && line[length - 1] == '\\';
        more = block ? !end : backslash;
        message = append(message, &used, line, length - backslash, more);
    }
    if (used > 0 && block && message[used - 1] == '\n')
        message[--used] = 0;
    if (in->edit && used > 0) {
        HistEvent event;
        history(in->history, &event, H_ENTER, message);
    }
    return message ? message : strdup("");
}
