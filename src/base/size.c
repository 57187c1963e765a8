#include "base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct unit {
    char letter;
    int shift;
} units[] = {{'K', 10}, {'M', 20}, {'G', 30}, {'T', 40}};

static odmoe_status bad(const char *text, odmoe_error *err)
{
    return err_set(err, ODMOE_ERR_ARG, "'%.40s' is not a size; write it like 512MiB, 4GiB, 4G (= GiB) or plain bytes",
                   text);
}

/* The shift for "", "K", "KiB" and so on; -1 for anything else. "GB" is refused: it is 7% off what most people mean. */
static int unit_shift(const char *unit)
{
    if (!*unit)
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strncasecmp(unit, &units[i].letter, 1) && (!unit[1] || !strcasecmp(unit + 1, "iB")))
            return units[i].shift;
    return -1;
}

odmoe_status odmoe_size_parse(const char *text, uint64_t *bytes, odmoe_error *err)
{
    const char *at = text;
    uint64_t whole = 0, fraction = 0, scale = 1;
    bool fits = true;
    if (*at < '0' || *at > '9')
        return bad(text, err);
    for (; *at >= '0' && *at <= '9'; at++)
        fits = fits && mem_mul(whole, 10, &whole) && mem_add(whole, (uint64_t)(*at - '0'), &whole);
    bool point = *at == '.';
    if (point) {
        if (at[1] < '0' || at[1] > '9')
            return bad(text, err);
        for (at++; *at >= '0' && *at <= '9'; at++)
            if (scale < 1000000) { /* six digits: a byte's worth in a MiB; more are cut */
                fraction = fraction * 10 + (uint64_t)(*at - '0');
                scale *= 10;
            }
    }
    int shift = unit_shift(at);
    if (shift < 0 || (point && !shift))
        return bad(text, err);
    uint64_t value;
    /* fraction < 10^6 < 2^20, so the product with 2^40 stays below 2^60 */
    if (!fits || !mem_mul(whole, (uint64_t)1 << shift, &value) || !mem_add(value, (fraction << shift) / scale, &value))
        return err_set(err, ODMOE_ERR_RANGE, "'%.40s' is more bytes than any machine has", text);
    *bytes = value;
    return ODMOE_OK;
}

char *odmoe_size_format(uint64_t bytes, char *text)
{
    size_t u = sizeof units / sizeof units[0];
    while (u > 0 && bytes < (uint64_t)1 << units[u - 1].shift)
        u--;
    if (u == 0) {
        snprintf(text, ODMOE_SIZE_TEXT_MAX, "%llu B", (unsigned long long)bytes);
        return text;
    }
    double value = (double)bytes / (double)((uint64_t)1 << units[u - 1].shift);
    int digits = bytes % ((uint64_t)1 << units[u - 1].shift) == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, ODMOE_SIZE_TEXT_MAX, "%.*f %ciB", digits, value, units[u - 1].letter);
    return text;
}
