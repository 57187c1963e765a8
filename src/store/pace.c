#include "store/pace.h"
#include "store/schedule.h"

void pace_read(read_pace *p, uint64_t bytes, uint64_t ns, uint64_t in_flight)
{
    bool full = in_flight >= SCHEDULE_PACE_FULL;
    if (full && !p->full) /* what was measured with less is of no use any more */
        *p = (read_pace){.gap_ns = p->gap_ns, .gap_since = p->gap_since};
    p->full |= full;
    if (full != p->full)
        return;
    p->bytes += bytes;
    p->ns += ns;
    if (p->bytes < SCHEDULE_PACE_BYTES || !p->ns)
        return;
    double rate = (double)p->bytes / (double)p->ns;
    p->rate += p->rate > 0 ? (rate - p->rate) * SCHEDULE_PACE_NEWEST : rate;
    p->bytes = p->ns = 0;
}

void pace_drained(read_pace *p, uint64_t now)
{
    if (!p->gap_since)
        p->gap_since = now;
}

void pace_fetch(read_pace *p, uint64_t now)
{
    double gap = p->gap_since ? (double)(now - p->gap_since) : 0;
    p->gap_since = 0;
    if (gap < SCHEDULE_GAP_MAX_NS)
        p->gap_ns += (gap - p->gap_ns) * SCHEDULE_PACE_NEWEST;
}

static uint64_t within(double bytes, uint64_t least, uint64_t most)
{
    return bytes < (double)least ? least : bytes > (double)most ? most : (uint64_t)bytes;
}

uint64_t pace_window(const read_pace *p)
{
    if (p->rate <= 0)
        return SCHEDULE_WINDOW_FIRST;
    double ns = p->gap_ns * SCHEDULE_GAP_SHARE;
    return within(p->rate * (ns > SCHEDULE_TURN_NS ? ns : SCHEDULE_TURN_NS), SCHEDULE_WINDOW_MIN, SCHEDULE_WINDOW_MAX);
}

uint64_t pace_certain(const read_pace *p)
{
    return p->rate <= 0 ? SCHEDULE_CERTAIN_MAX
                        : within(p->rate * SCHEDULE_CERTAIN_NS, SCHEDULE_CERTAIN_MIN, SCHEDULE_CERTAIN_MAX);
}
