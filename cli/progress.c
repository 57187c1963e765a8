#include "progress.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One program, one terminal: the state of its last line. */
static struct {
    bool drawn, prompt, verbose;
    double next;
} line;

static volatile sig_atomic_t interrupt_flag;

bool talkative(void)
{
    return line.verbose || isatty(STDERR_FILENO);
}

void set_verbose(void)
{
    line.verbose = true;
}

void progress_prompt(bool on)
{
    line.prompt = on;
    if (!on)
        progress_clear();
}

void progress_clear(void)
{
    if (line.drawn)
        fputs("\r\033[K", stderr);
    line.drawn = false;
}

/* Can the terminal clear a line, so that progress may be drawn over itself? */
static bool redraws(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb");
}

void progress_draw(const char *format, ...)
{
    va_list arguments;
    if (!redraws())
        return;
    line.drawn = true;
    fputs("\r", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\033[K", stderr);
    fflush(stderr);
}

int progress_step(void *user, odmoe_stage stage, uint64_t done, uint64_t total)
{
    if (interrupted())
        return 1;
    double now = now_seconds();
    if (now < line.next || total == 0 || (stage == ODMOE_STAGE_FORWARD && !line.prompt))
        return 0;
    line.next = now + 0.1;
    int percent = (int)((double)done / (double)total * 100);
    if (stage == ODMOE_STAGE_OPEN) {
        char have[ODMOE_SIZE_TEXT_MAX], all[ODMOE_SIZE_TEXT_MAX];
        progress_draw("loading the resident weights: %d%% (%s of %s)", percent, odmoe_size_format(done, have),
                      odmoe_size_format(total, all));
    } else {
        progress_draw("reading the prompt: %d%%", percent);
    }
    return 0;
}

static void on_interrupt(int signal_number)
{
    interrupt_flag = 1;
}

void interrupt_catch(bool once)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = once ? SA_RESETHAND : 0};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool interrupted(void)
{
    return interrupt_flag;
}

void interrupt_forget(void)
{
    interrupt_flag = 0;
}

void catch_ends(const int *signals, size_t count, void (*handler)(int signal_number))
{
    struct sigaction old, action = {.sa_handler = handler, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < count; i++)
        if (!sigaction(signals[i], NULL, &old) && old.sa_handler == SIG_DFL)
            sigaction(signals[i], &action, NULL);
}
