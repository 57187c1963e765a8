#include "prefetch/trial.h"

void trial_init(trial *t)
{
    *t = (trial){.running = true};
}

/* A pass that takes very long (the first after a prompt, a busy machine) counts as twice the mean. */
static void mean_add(trial_mean *m, double ns)
{
    if (m->seen >= TRIAL_SEEN_TO_TELL / 2 && ns > 2 * m->ns)
        ns = 2 * m->ns;
    m->seen += m->seen < TRIAL_SEEN_MOST;
    m->ns += (ns - m->ns) / m->seen;
}

void trial_settle(trial *t, double ns)
{
    if (++t->passes <= TRIAL_WARM_UP)
        return;
    mean_add(t->running ? &t->with : &t->without, ns);
    if (t->with.seen >= TRIAL_SEEN_TO_TELL && t->without.seen >= TRIAL_SEEN_TO_TELL)
        t->running = (t->with.ns < t->without.ns) != (t->passes % TRIAL_OTHER_EVERY == 0);
    else
        t->running = (t->passes & 3) == 1 || (t->passes & 3) == 2; /* two with, two without: a drift meets both */
}
