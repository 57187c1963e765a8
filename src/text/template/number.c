#include "text/template/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The C library writes and reads the locale's decimal point. */
static void use_point(char *text, char from, char to)
{
    char *at = from != to ? strchr(text, from) : NULL;
    if (at)
        *at = to;
}

static char locale_point(void)
{
    const char *point = localeconv()->decimal_point;
    return point && point[0] && !point[1] ? point[0] : '.';
}

double number_read(const char *text, size_t length)
{
    char copy[NUMBER_MAX];
    if (length >= sizeof copy)
        length = sizeof copy - 1;
    memcpy(copy, text, length);
    copy[length] = 0;
    use_point(copy, '.', locale_point());
    return strtod(copy, NULL);
}

size_t number_fixed(double f, int digits, char *out)
{
    int n = snprintf(out, NUMBER_MAX, "%.*f", digits, f);
    use_point(out, locale_point(), '.');
    return (size_t)n;
}

size_t number_exponent(double f, int digits, char *out)
{
    int n = snprintf(out, NUMBER_MAX, "%.*e", digits, f);
    use_point(out, locale_point(), '.');
    return (size_t)n;
}

size_t number_int(wide i, char *out)
{
    char digits[48];
    size_t n = 0, k = 0;
    unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;
    do
        digits[n++] = (char)('0' + (int)(u % 10));
    while (u /= 10);
    if (i < 0)
        out[k++] = '-';
    while (n)
        out[k++] = digits[--n];
    out[k] = 0;
    return k;
}

size_t number_repr(double f, char *out)
{
    if (isnan(f) || isinf(f)) {
        strcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return strlen(out);
    }
    char text[NUMBER_MAX];
    for (int digits = 0; digits < 17; digits++) {
        number_exponent(f, digits, text);
        if (number_read(text, strlen(text)) == f)
            break;
    }
    /* text is [-]d[.ddd]e+xx; Python writes that where the exponent is below -4 or from 16 on. */
    char digits[24] = {0};
    size_t n = 0, k = 0;
    const char *at = text;
    if (*at == '-')
        out[k++] = *at++;
    for (; *at != 'e'; at++)
        if (*at != '.')
            digits[n++] = *at;
    int exponent = atoi(at + 1);
    if (exponent < -4 || exponent >= 16) {
        out[k++] = digits[0];
        if (n > 1)
            out[k++] = '.';
        for (size_t i = 1; i < n; i++)
            out[k++] = digits[i];
        return k + (size_t)sprintf(out + k, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        out[k++] = '0';
        out[k++] = '.';
        for (int i = -1; i > exponent; i--)
            out[k++] = '0';
    }
    for (int i = 0; i < (int)n || i <= exponent; i++) {
        out[k++] = i < (int)n ? digits[i] : '0';
        if (exponent >= 0 && i == exponent)
            out[k++] = '.';
    }
    if (out[k - 1] == '.')
        out[k++] = '0';
    out[k] = 0;
    return k;
}
