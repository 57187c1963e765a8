/* progress.h - one line on a terminal that says how far loading or reading a prompt is, and Ctrl-C. */
#ifndef ODMOE_CLI_PROGRESS_H
#define ODMOE_CLI_PROGRESS_H

#include "cli.h"

/* progress_step - give it as options.progress. Draws at most ten times a second, only on a terminal; asks the
 * library to stop once Ctrl-C was pressed. */
int progress_step(void *user, odmoe_stage stage, uint64_t done, uint64_t total);

/* progress_prompt - whether passes show "reading the prompt"; off while text is generated. */
void progress_prompt(bool on);
/* progress_clear - remove the line, if one is drawn. */
void progress_clear(void);
/* progress_draw - a line of progress, over the last one; nothing where standard error is no terminal, or one that cannot
 * clear a line (TERM=dumb). */
void progress_draw(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* talkative - whether summaries are shown: stderr is a terminal, or `--verbose` asked for them. */
bool talkative(void);
void set_verbose(void);

/* Ctrl-C. interrupt_catch - from now on it sets a flag. once: a second one ends the program as usual. */
void interrupt_catch(bool once);
bool interrupted(void);
void interrupt_forget(void);

/* catch_ends - a handler for signals that would end or stop the program, which clears up and raises the signal again:
 * that ends or stops it then. A signal that is ignored stays ignored, so that nohup keeps its meaning. */
void catch_ends(const int *signals, size_t count, void (*handler)(int signal_number));

#endif
