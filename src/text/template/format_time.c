#include <stdio.h>
#include <time.h>

#include "text/template/call.h"

/* strftime in the C locale, of a time in UTC; names are written here because the C library's follow the locale. */

static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

/* The week of the year, weeks beginning on `first` (0: Sunday). */
static int week(const struct tm *t, int first)
{
    return (t->tm_yday + 7 - (t->tm_wday + 7 - first) % 7) / 7;
}

/* ISO 8601's year and week. */
static int iso_week(const struct tm *t, int *year)
{
    int day = (t->tm_wday + 6) % 7, nearest = t->tm_yday - day + 3; /* this week's Thursday */
    *year = t->tm_year + 1900;
    int length = 365 + ((*year % 4 == 0 && *year % 100) || *year % 400 == 0);
    if (nearest < 0) {
        --*year;
        nearest += 365 + ((*year % 4 == 0 && *year % 100) || *year % 400 == 0);
    } else if (nearest >= length) {
        ++*year;
        nearest -= length;
    }
    return nearest / 7 + 1;
}

/* One directive; returns the length, -1 for an unknown one. */
static int directive(const struct tm *t, int64_t seconds, char c, char *out, size_t room)
{
    int hour = t->tm_hour % 12 ? t->tm_hour % 12 : 12, year = t->tm_year + 1900, iso_year, iso = iso_week(t, &iso_year);
    const char *day = days[t->tm_wday], *month = months[t->tm_mon];
    switch (c) {
    case 'a':
        return snprintf(out, room, "%.3s", day);
    case 'A':
        return snprintf(out, room, "%s", day);
    case 'b':
    case 'h':
        return snprintf(out, room, "%.3s", month);
    case 'B':
        return snprintf(out, room, "%s", month);
    case 'c':
        return snprintf(out, room, "%.3s %.3s %2d %02d:%02d:%02d %d", day, month, t->tm_mday, t->tm_hour, t->tm_min,
                        t->tm_sec, year);
    case 'C':
        return snprintf(out, room, "%02d", year / 100);
    case 'd':
        return snprintf(out, room, "%02d", t->tm_mday);
    case 'D':
    case 'x':
        return snprintf(out, room, "%02d/%02d/%02d", t->tm_mon + 1, t->tm_mday, year % 100);
    case 'e':
        return snprintf(out, room, "%2d", t->tm_mday);
    case 'f':
        return snprintf(out, room, "000000");
    case 'F':
        return snprintf(out, room, "%d-%02d-%02d", year, t->tm_mon + 1, t->tm_mday);
    case 'G':
        return snprintf(out, room, "%d", iso_year);
    case 'g':
        return snprintf(out, room, "%02d", iso_year % 100);
    case 'H':
        return snprintf(out, room, "%02d", t->tm_hour);
    case 'I':
        return snprintf(out, room, "%02d", hour);
    case 'j':
        return snprintf(out, room, "%03d", t->tm_yday + 1);
    case 'k':
        return snprintf(out, room, "%2d", t->tm_hour);
    case 'l':
        return snprintf(out, room, "%2d", hour);
    case 'm':
        return snprintf(out, room, "%02d", t->tm_mon + 1);
    case 'M':
        return snprintf(out, room, "%02d", t->tm_min);
    case 'n':
        return snprintf(out, room, "\n");
    case 'p':
        return snprintf(out, room, t->tm_hour < 12 ? "AM" : "PM");
    case 'P':
        return snprintf(out, room, t->tm_hour < 12 ? "am" : "pm");
    case 'r':
        return snprintf(out, room, "%02d:%02d:%02d %s", hour, t->tm_min, t->tm_sec, t->tm_hour < 12 ? "AM" : "PM");
    case 'R':
        return snprintf(out, room, "%02d:%02d", t->tm_hour, t->tm_min);
    case 's':
        return snprintf(out, room, "%lld", (long long)seconds);
    case 'S':
        return snprintf(out, room, "%02d", t->tm_sec);
    case 't':
        return snprintf(out, room, "\t");
    case 'T':
    case 'X':
        return snprintf(out, room, "%02d:%02d:%02d", t->tm_hour, t->tm_min, t->tm_sec);
    case 'u':
        return snprintf(out, room, "%d", t->tm_wday ? t->tm_wday : 7);
    case 'U':
        return snprintf(out, room, "%02d", week(t, 0));
    case 'V':
        return snprintf(out, room, "%02d", iso);
    case 'w':
        return snprintf(out, room, "%d", t->tm_wday);
    case 'W':
        return snprintf(out, room, "%02d", week(t, 1));
    case 'y':
        return snprintf(out, room, "%02d", year % 100);
    case 'Y':
        return snprintf(out, room, "%d", year);
    case 'z':
    case 'Z': /* Python's time has no zone */
        return 0;
    case '%':
        return snprintf(out, room, "%%");
    default:
        return -1;
    }
}

str *tpl_format_time(tpl_state *s, const str *format, int64_t seconds)
{
    struct tm t;
    time_t when = (time_t)seconds;
    if (seconds < -62135596800 || seconds > 253402300799 || !gmtime_r(&when, &t)) /* the years 1 to 9999 */
        tpl_fail(s, TEMPLATE_VALUE, "the time is out of range");
    builder b = {0};
    const char *text = str_flat(s, format);
    for (size_t at = 0; at < format->length;) {
        const char *sign = memchr(text + at, '%', format->length - at);
        size_t to = sign ? (size_t)(sign - text) : format->length;
        build_sub(s, &b, format, at, to);
        at = to;
        if (!sign)
            break;
        char name = at + 1 < format->length ? text[at + 1] : 0, out[96];
        bool unpadded = name == '-' && at + 2 < format->length;
        if (unpadded)
            name = text[at + 2];
        int n = directive(&t, seconds, name, out, sizeof out);
        if (n < 0) {
            build_sub(s, &b, format, at, at + 1);
            at++;
            continue;
        }
        const char *from = out;
        while (unpadded && n > 1 && (*from == '0' || *from == ' ')) {
            from++;
            n--;
        }
        build_bytes(s, &b, from, (size_t)n, str_foreign(format, at));
        at += unpadded ? 3 : 2;
    }
    return str_built(s, &b);
}
