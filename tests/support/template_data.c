#include "support/template_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(FILE *f, size_t *length)
{
    size_t capacity = 1 << 16;
    char *text = malloc(capacity);
    *length = 0;
    for (size_t n; text && (n = fread(text + *length, 1, capacity - *length - 1, f)) > 0;) {
        *length += n;
        if (capacity - *length < 2)
            text = realloc(text, capacity *= 2);
    }
    if (text)
        text[*length] = 0;
    return text;
}

static FILE *open_data(const char *name, const char *ending, bool packed)
{
    char path[4096], command[4200];
    snprintf(path, sizeof path, "%s/templates/%s%s%s", getenv("ODMOE_TEST_DATA"), name, ending, packed ? ".gz" : "");
    FILE *f = fopen(path, "rb");
    if (!f || !packed)
        return f;
    fclose(f);
    snprintf(command, sizeof command, "gzip -dc '%s'", path);
    return popen(command, "r");
}

json_t *templates_json(const char *name)
{
    size_t length;
    json_error_t fault;
    FILE *plain = open_data(name, ".json", false), *packed = plain ? NULL : open_data(name, ".json", true);
    char *text = plain || packed ? read_all(plain ? plain : packed, &length) : NULL;
    json_t *all = text ? json_loadb(text, length, JSON_ALLOW_NUL, &fault) : NULL;
    if (!all) {
        fprintf(stderr, "templates/%s.json: missing or malformed\n", name);
        exit(1);
    }
    if (plain)
        fclose(plain);
    if (packed)
        pclose(packed);
    free(text);
    return all;
}

char *templates_source(const char *name)
{
    size_t length;
    FILE *f = open_data(name, ".jinja", false);
    char *text = f ? read_all(f, &length) : NULL;
    if (!text) {
        fprintf(stderr, "templates/%s.jinja: missing\n", name);
        exit(1);
    }
    fclose(f);
    return text;
}

template_error template_run(const chat_program *t, const json_t *context, template_text *out, template_fault *fault)
{
    template_variable variables[64];
    char *texts[64];
    size_t n = 0;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)context, name, v)
    {
        texts[n] = json_dumps(v, JSON_ENCODE_ANY);
        bool foreign = !strcmp(name, "messages") || !strcmp(name, "tools") || !strcmp(name, "documents");
        variables[n] =
            (template_variable){.name = name, .json = texts[n], .length = strlen(texts[n]), .foreign = foreign};
        n++;
    }
    template_error e = template_render(t, variables, n, TEMPLATE_TEST_NOW, NULL, out, fault);
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    return e;
}
