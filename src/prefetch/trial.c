#include "prefetch/trial.h"

void trial_init(trial *t)
{
    *t = (trial){.running = true, .better = true};
}

/* A pass that takes very long (the first after a prompt, a busy machine) counts as twice the mean. */
static void mean_add(trial_mean *m, double ns, int most)
{
    if (m->seen >= TRIAL_SEEN_TO_TELL / 2 && ns > 2 * m->ns)
        ns = 2 * m->ns;
    m->seen = m->seen < most ? m->seen + 1 : most;
    m->ns += (ns - m->ns) / m->seen;
}

void trial_settle(trial *t, double ns)
{
    if (++t->passes <= TRIAL_WARM_UP)
        return;
    mean_add(t->running ? &t->with : &t->without, ns, t->running == t->better ? TRIAL_SEEN_MOST : TRIAL_OTHER_MOST);
    bool known = t->with.seen >= TRIAL_SEEN_TO_TELL && t->without.seen >= TRIAL_SEEN_TO_TELL;
    t->better = !known || t->with.ns <= t->without.ns;
    bool other = t->passes % (known ? TRIAL_OTHER_EVERY : TRIAL_OTHER_FIRST) < 2;
    t->running = t->better != other;
}
