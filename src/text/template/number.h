/* number.h - numbers as text and back, as Python writes them and whatever the locale is. */
#ifndef ODMOE_TEXT_TEMPLATE_NUMBER_H
#define ODMOE_TEXT_TEMPLATE_NUMBER_H

#include <stddef.h>

#include "text/template/value.h"

enum { NUMBER_MAX = 400 }; /* bytes that number_fixed may need for 0 to 40 digits behind the point */

/* number_read - the value of text[0, length): digits, a point, an exponent, a sign; length < 400. */
double number_read(const char *text, size_t length);
/* number_repr - the shortest text that reads back as f: "0.1", "1e+21", "nan", "inf"; returns its length, < 32. */
size_t number_repr(double f, char *out);
/* number_int - an integer's decimal text, terminated; returns its length, < 48. */
size_t number_int(wide i, char *out);
/* number_fixed - `digits` (0 to 40) behind the point, terminated; returns its length, < NUMBER_MAX. */
size_t number_fixed(double f, int digits, char *out);
/* number_exponent - digits and an exponent: "1.5e+03". digits 0 to 40. */
size_t number_exponent(double f, int digits, char *out);

#endif
