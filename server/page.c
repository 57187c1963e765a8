/* page.c - the files of the page (docs/server.md, "The page"). */
#include "http.h"
#include "page/page_files.h"
#include "serve.h"

static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                             "connect-src 'self'; base-uri 'none'; "
                             "form-action 'none'; frame-ancestors 'none'";

static bool file(const server *s, http_reply *reply, problem *p, const char *type, const unsigned char *data,
                 size_t length)
{
    if (s->options->no_page)
        return problem_set(p, 404, "not_found", NULL, "this server was started with --no-page");
    reply_header(reply, "Content-Security-Policy", "%s", policy);
    reply_header(reply, "X-Content-Type-Options", "nosniff");
    reply_header(reply, "Referrer-Policy", "no-referrer");
    reply_text(reply, 200, type, (const char *)data, length);
    return true;
}

static bool index_html(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request;
    return file(s, reply, p, "text/html; charset=utf-8", page_index_html, page_index_html_length);
}

static bool app_js(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request;
    return file(s, reply, p, "text/javascript; charset=utf-8", page_app_js, page_app_js_length);
}

static bool app_css(server *s, http_request *request, http_reply *reply, problem *p)
{
    (void)request;
    return file(s, reply, p, "text/css; charset=utf-8", page_app_css, page_app_css_length);
}

const route page_routes[] = {
    {"GET", "/", "page", index_html, ROUTE_NO_KEY | ROUTE_ALWAYS | ROUTE_NO_V1, ERRORS_OPENAI},
    {"GET", "/app.js", "page", app_js, ROUTE_NO_KEY | ROUTE_ALWAYS | ROUTE_NO_V1, ERRORS_OPENAI},
    {"GET", "/app.css", "page", app_css, ROUTE_NO_KEY | ROUTE_ALWAYS | ROUTE_NO_V1, ERRORS_OPENAI},
    {0},
};
