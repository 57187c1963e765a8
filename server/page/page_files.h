/* page_files.h - the page's files, embedded at build time (embed.py). */
#ifndef ODMOE_SERVER_PAGE_FILES_H
#define ODMOE_SERVER_PAGE_FILES_H

#include <stddef.h>

extern const unsigned char page_index_html[], page_app_js[], page_app_css[];
extern const size_t page_index_html_length, page_app_js_length, page_app_css_length;

#endif
