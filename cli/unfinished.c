#include "unfinished.h"

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "progress.h"

static char name[PATH_MAX]; /* not the library's own text, which finish frees */
static volatile sig_atomic_t there;

/* As catch_ends wants it. */
static void on_end(int signal_number)
{
    if (there)
        unlink(name);
    raise(signal_number);
}

void unfinished_begin(const char *partial)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    there = false;
    snprintf(name, sizeof name, "%s", partial);
    there = true;
    catch_ends(ends, sizeof ends / sizeof *ends, on_end);
}

void unfinished_end(void)
{
    there = false;
}
