#include "line_input.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

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

static struct termios modes; /* of the terminal, before the editor came */

static void on_end(int signal_number)
{
    tcsetattr(STDIN_FILENO, TCSANOW, &modes);
    raise(signal_number); /* ends the program now (catch_ends) */
}

/* What happened while a key was waited for. */
static volatile sig_atomic_t resumed, resized;

static void on_stop(int signal_number)
{
    int error = errno;
    struct termios edited;
    sigset_t stop;
    bool known = !tcgetattr(STDIN_FILENO, &edited);
    tcsetattr(STDIN_FILENO, TCSANOW, &modes);
    sigemptyset(&stop);
    sigaddset(&stop, signal_number);
    raise(signal_number);
    pthread_sigmask(SIG_UNBLOCK, &stop, NULL); /* stops here */
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    catch_ends(&signal_number, 1, on_stop);
    if (known)
        tcsetattr(STDIN_FILENO, TCSANOW, &edited);
    resumed = 1;
    errno = error;
}

static void on_resize(int signal_number)
{
    resized = 1;
}

/* While keys are read: be told when the program is stopped and when the window changes. The editor could see to signals
 * itself, but would send each on to all programs of the process group, a script that runs this one among them. */
static void watch_terminal(bool on)
{
    static const int stop = SIGTSTP;
    struct sigaction old, action = {.sa_handler = on ? on_resize : SIG_DFL};
    sigemptyset(&action.sa_mask);
    sigaction(SIGWINCH, &action, NULL);
    if (on)
        catch_ends(&stop, 1, on_stop);
    else if (!sigaction(stop, NULL, &old) && old.sa_handler == on_stop)
        sigaction(stop, &action, NULL);
}

/* Signals are let in while a key is waited for, with the mask `before`, and not between the look at what happened and the
 * wait, where they would be seen only after the next key. */
static int next_key(EditLine *edit, wchar_t *key, const sigset_t *before)
{
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    mbstate_t state = {0};
    for (;;) {
        if (resized || resumed)
            el_resize(edit);
        if (resumed)
            el_set(edit, EL_REFRESH);
        resized = resumed = 0;
        if (interrupted())
            return -1;
        char byte;
        ssize_t got = ppoll(&keys, 1, NULL, before) < 0 ? -1 : read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return (int)got;
        size_t n = mbrtowc(key, &byte, 1, &state);
        if (n == (size_t)-1) { /* this byte may begin another */
            state = (mbstate_t){0};
            n = mbrtowc(key, &byte, 1, &state);
        }
        if (n <= 1)
            return 1;
        if (n == (size_t)-1)
            state = (mbstate_t){0};
    }
}

/* One character for the editor; bytes that are none are left out. -1 also after Ctrl-C. */
static int read_key(EditLine *edit, wchar_t *key)
{
    sigset_t told, before;
    sigemptyset(&told);
    sigaddset(&told, SIGINT);
    sigaddset(&told, SIGTSTP);
    sigaddset(&told, SIGWINCH);
    pthread_sigmask(SIG_BLOCK, &told, &before);
    int got = next_key(edit, key, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return got;
}

line_input *line_input_open(void)
{
    line_input *in = must_alloc(1, sizeof *in);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return in;
    static const int ends[] = {SIGTERM, SIGHUP, SIGQUIT};
    if (!tcgetattr(STDIN_FILENO, &modes))
        catch_ends(ends, sizeof ends / sizeof *ends, on_end);
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
    el_set(in->edit, EL_SIGNAL, 0); /* watch_terminal, on_end and Ctrl-C's flag see to them */
    el_set(in->edit, EL_GETCFN, read_key);
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

typedef enum line_result { LINE_READ, LINE_DROPPED, LINE_END, LINE_INTERRUPTED, LINE_FAILED } line_result;

static line_result read_plain(line_input *in, size_t *length)
{
    ssize_t got = getline(&in->line, &in->capacity, stdin);
    /* Half a line that was read before an error comes back like the last one of the input: ask first. */
    if (ferror(stdin) || (got < 0 && !feof(stdin))) {
        if (interrupted())
            return LINE_INTERRUPTED;
        complain("standard input: %s", strerror(errno));
        return LINE_FAILED;
    }
    if (got < 0)
        return LINE_END;
    *length = (size_t)got;
    return LINE_READ;
}

static line_result read_edited(line_input *in, const char *prompt, size_t *length)
{
    int got = 0;
    in->prompt = prompt;
    errno = 0;
    el_resize(in->edit); /* the window may have changed while the answer came */
    watch_terminal(true);
    const char *text = el_gets(in->edit, &got);
    watch_terminal(false);
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
    *length = (size_t)got;
    return LINE_READ;
}

/* One line without its end; it stays valid until the next. */
static line_result read_line(line_input *in, const char *prompt, char **line, size_t *length)
{
    line_result result = in->edit ? read_edited(in, prompt, length) : read_plain(in, length);
    if (result == LINE_READ) {
        *line = in->line;
        *length = drop_line_end(in->line, *length);
    }
    return result;
}

/* A message as its lines come. */
typedef struct message {
    char *text; /* NULL: no line yet */
    size_t length;
    bool block; /* three quotes were opened and are not closed yet */
} message;

/* m += line[0, length), then a line end where another line follows */
static void append(message *m, const char *line, size_t length, bool more)
{
    m->text = must_realloc(m->text, m->length + length + 2, 1);
    memcpy(m->text + m->length, line, length);
    m->length += length;
    if (more)
        m->text[m->length++] = '\n';
    m->text[m->length] = 0;
}

/* One more line; whether the message goes on in the next. Behind the quotes that close a block it is a line like
 * others. */
static bool add_line(message *m, const char *line, size_t length)
{
    const char *end = line + length;
    if (!m->block && !m->text && !strncmp(line, BLOCK, strlen(BLOCK))) {
        m->block = true;
        line += strlen(BLOCK);
        if (line == end)
            return true;
    }
    if (m->block) {
        const char *close = memmem(line, (size_t)(end - line), BLOCK, strlen(BLOCK));
        append(m, line, (size_t)((close ? close : end) - line), !close);
        if (!close)
            return true;
        m->block = false;
        line = close + strlen(BLOCK);
        if (line == end && m->length > 0 && m->text[m->length - 1] == '\n')
            m->text[--m->length] = 0; /* quotes on a line of their own */
    }
    bool more = line < end && end[-1] == '\\';
    append(m, line, (size_t)(end - line) - more, more);
    return more;
}

/* Hand a message over, unless it is none that a model can be told. */
static message_result finish(line_input *in, message *m, char **text)
{
    if (m->text && memchr(m->text, 0, m->length)) {
        complain("the message was not sent: it has a zero byte, which no text has; is the input UTF-8?");
        free(m->text);
        return MESSAGE_REFUSED;
    }
    if (in->edit && m->length > 0) {
        HistEvent event;
        history(in->history, &event, H_ENTER, m->text);
    }
    *text = m->text;
    return MESSAGE_READ;
}

message_result line_input_message(line_input *in, char **text)
{
    message m = {0};
    for (bool more = true; more;) {
        char *line;
        size_t length;
        line_result result = read_line(in, m.text || m.block ? "... " : "> ", &line, &length);
        if (result == LINE_END) {
            if (in->edit)
                putchar('\n');
            if (!m.text)
                return MESSAGE_END;
            break; /* an unfinished message counts when the input ends */
        }
        if (result == LINE_READ) {
            more = add_line(&m, line, length);
            continue;
        }
        free(m.text);
        m = (message){0};
        if (result == LINE_INTERRUPTED)
            return MESSAGE_INTERRUPTED;
        if (result == LINE_FAILED)
            return MESSAGE_FAILED;
    }
    return finish(in, &m, text);
}
