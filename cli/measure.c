#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

static odmoe_stats stats_now(odmoe_model *model)
{
    odmoe_stats s = {.size = sizeof s};
    odmoe_stats_get(model, &s);
    return s;
}

void measure_start(measure *m, odmoe_model *model)
{
    *m = (measure){.model = model, .plan = {.size = sizeof m->plan}};
    odmoe_model_plan(model, &m->plan);
    m->start = m->prompt = m->end = stats_now(model);
    m->start_time = m->prompt_time = m->end_time = now_seconds();
}

void measure_prompt_done(measure *m, int64_t tokens)
{
    m->prompt_time = m->end_time = now_seconds();
    m->prompt = m->end = stats_now(m->model);
    m->prompt_tokens = tokens;
}

void measure_first_token(measure *m)
{
    if (m->first_time == 0)
        m->first_time = now_seconds();
}

void measure_end(measure *m, int64_t tokens, int64_t passes)
{
    m->end_time = now_seconds();
    m->end = stats_now(m->model);
    m->gen_tokens = tokens;
    m->gen_passes = passes;
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

static double prompt_seconds(const measure *m)
{
    return m->prompt_time - m->start_time;
}

static double gen_seconds(const measure *m)
{
    return m->end_time - m->prompt_time;
}

json_t *measure_json(const measure *m)
{
    const odmoe_stats *a = &m->start, *b = &m->end;
    json_t *o = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"prompt_tokens", (uint64_t)m->prompt_tokens},
        {"prompt_chunks", m->prompt.chunks - a->chunks},
        {"prompt_bytes_read", m->prompt.bytes_read - a->bytes_read},
        {"gen_tokens", (uint64_t)m->gen_tokens},
        {"gen_bytes_read", b->bytes_read - m->prompt.bytes_read},
        {"bytes_read", b->bytes_read - a->bytes_read},
        {"reads", b->reads - a->reads},
        {"expert_uses", b->expert_uses - a->expert_uses},
        {"cache_hits", b->cache_hits - a->cache_hits},
        {"cache_misses", b->cache_misses - a->cache_misses},
        {"ram_bytes", m->plan.ram_bytes},
        {"peak_rss_bytes", b->peak_rss_bytes},
        {"peak_anon_bytes", b->peak_anon_bytes},
        {"threads", (uint64_t)b->threads},
        {"ahead_bytes_read", b->prefetch_bytes_read - a->prefetch_bytes_read},
        {"ahead_bytes_used", b->prefetch_bytes_used - a->prefetch_bytes_used},
        {"embedding_hits", b->embedding_hits - a->embedding_hits},
        {"embedding_misses", b->embedding_misses - a->embedding_misses},
        {"embedding_bytes_read", b->embedding_bytes_read - a->embedding_bytes_read},
    };
    const struct {
        const char *name;
        double value;
    } reals[] = {
        {"prompt_seconds", prompt_seconds(m)},
        {"prompt_tps", rate((double)m->prompt_tokens, prompt_seconds(m))},
        {"gen_seconds", gen_seconds(m)},
        {"gen_tps", rate((double)m->gen_passes, gen_seconds(m))},
        {"first_token_seconds", m->first_time > 0 ? m->first_time - m->start_time : 0},
        {"prompt_stall_seconds", m->prompt.stall_seconds - a->stall_seconds},
        {"prompt_read_seconds", m->prompt.read_seconds - a->read_seconds},
        {"gen_stall_seconds", b->stall_seconds - m->prompt.stall_seconds},
        {"gen_read_seconds", b->read_seconds - m->prompt.read_seconds},
        {"read_seconds", b->read_seconds - a->read_seconds},
        {"stall_seconds", b->stall_seconds - a->stall_seconds},
        {"compute_seconds", b->compute_seconds - a->compute_seconds},
    };
    const struct {
        const char *name, *value;
    } texts[] = {{"io", b->io}, {"kernels", b->kernels}, {"kv", b->kv}, {"policy", b->policy}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(o, counts[i].name, json_integer((json_int_t)counts[i].value));
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        json_object_set_new(o, reals[i].name, json_real(reals[i].value));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        json_object_set_new(o, texts[i].name, texts[i].value ? json_string(texts[i].value) : json_null());
    return o;
}

static void print_budget(const odmoe_plan *p, FILE *out)
{
    char ram[ODMOE_SIZE_TEXT_MAX], resident[ODMOE_SIZE_TEXT_MAX], cache[ODMOE_SIZE_TEXT_MAX];
    char working[ODMOE_SIZE_TEXT_MAX];
    fprintf(out, "; budget %s: %s weights, %s context and work, %s expert cache", odmoe_size_format(p->ram_bytes, ram),
            odmoe_size_format(p->resident_bytes, resident),
            odmoe_size_format(p->kv_bytes + p->activation_bytes + p->other_bytes, working),
            odmoe_size_format(p->cache_bytes, cache));
}

/* What prefetching brought, when it read anything. */
static void print_prefetch(const measure *m, FILE *out)
{
    char bytes[ODMOE_SIZE_TEXT_MAX];
    uint64_t read = m->end.prefetch_bytes_read - m->start.prefetch_bytes_read;
    uint64_t used = m->end.prefetch_bytes_used - m->start.prefetch_bytes_used;
    if (read > 0)
        fprintf(out, ", %s of it ahead (%.0f%% right)", odmoe_size_format(read, bytes),
                100 * rate((double)used, (double)read));
}

/* For three digits that say something. */
static int decimals(double number)
{
    return number >= 100 ? 0 : number >= 10 ? 1 : 2;
}

void measure_summary(const measure *m, bool budget, FILE *out)
{
    const odmoe_stats *a = &m->start, *b = &m->end;
    char bytes[ODMOE_SIZE_TEXT_MAX], speed[ODMOE_SIZE_TEXT_MAX];
    uint64_t read = b->bytes_read - a->bytes_read, hits = b->cache_hits - a->cache_hits;
    double fetched = (double)hits + (double)(b->cache_misses - a->cache_misses);
    double stall = b->stall_seconds - a->stall_seconds, compute = b->compute_seconds - a->compute_seconds;

    double gen = rate((double)m->gen_passes, gen_seconds(m));
    double prompt = rate((double)m->prompt_tokens, prompt_seconds(m));

    fprintf(out, "%lld tokens at %.*f tok/s (prompt: %lld at %.*f)", (long long)m->gen_tokens, decimals(gen), gen,
            (long long)m->prompt_tokens, decimals(prompt), prompt);
    if (budget)
        print_budget(&m->plan, out);
    fprintf(out, "; %.0f%% of experts were in the cache", 100 * rate((double)hits, fetched));
    if (read > 0)
        fprintf(out, "; read %s at %s/s", odmoe_size_format(read, bytes),
                odmoe_size_format((uint64_t)rate((double)read, b->read_seconds - a->read_seconds), speed));
    print_prefetch(m, out);
    fprintf(out, "; %.0f%% of the time waiting for the disk\n", 100 * rate(stall, stall + compute));
}

/* A size that can be pasted behind --ram, rounded up. */
static const char *ram_text(uint64_t bytes, char text[ODMOE_SIZE_TEXT_MAX])
{
    if (bytes < 10ull << 30)
        snprintf(text, ODMOE_SIZE_TEXT_MAX, "%lluMiB", (unsigned long long)((bytes + (1 << 20) - 1) >> 20));
    else
        snprintf(text, ODMOE_SIZE_TEXT_MAX, "%.1fG", ceil((double)bytes / (1 << 30) * 10) / 10);
    return text;
}

/* The --ram, as it is printed, whose cache holds `want` bytes: more than now. What is not cache may grow with the
 * budget, rounding included, so each figure is tried. 0 when that does not end. */
static uint64_t ram_for_cache(const char *path, odmoe_options options, const odmoe_plan *now, uint64_t want,
                              char text[ODMOE_SIZE_TEXT_MAX])
{
    odmoe_plan plan = *now;
    uint64_t ram = now->ram_bytes;
    for (int i = 0; i < 6 && plan.cache_bytes < want; i++) {
        if (odmoe_size_parse(ram_text(ram + want - plan.cache_bytes, text), &ram, NULL))
            return 0;
        options.ram_bytes = ram;
        plan.size = sizeof plan;
        if (odmoe_plan_make(path, &options, &plan, NULL))
            return 0;
    }
    return plan.cache_bytes >= want ? ram : 0;
}

void measure_hint(const measure *m, const char *path, const odmoe_options *options, FILE *out)
{
    const odmoe_plan *p = &m->plan;
    char text[ODMOE_SIZE_TEXT_MAX];
    if (p->cache_bytes >= p->cache_all_bytes || m->end.cache_misses == m->start.cache_misses)
        return;
    uint64_t ram = ram_for_cache(path, *options, p, p->cache_all_bytes, text);
    if (ram && ram <= p->available_bytes) {
        fprintf(out, "hint: --ram %s would hold every expert: nothing would be read twice\n", text);
        return;
    }
    if (p->cache_bytes >= p->cache_token_bytes)
        return;
    ram = ram_for_cache(path, *options, p, p->cache_token_bytes, text);
    if (ram && ram <= p->available_bytes)
        fprintf(out, "hint: --ram %s would hold one token's experts: more would be found in the cache\n", text);
}

void budget_warning(const odmoe_plan *p, FILE *out)
{
    char budget[ODMOE_SIZE_TEXT_MAX], available[ODMOE_SIZE_TEXT_MAX];
    if (p->available_bytes && p->ram_bytes > p->available_bytes)
        fprintf(
            out,
            "warning: a budget of %s, but %s are available here: what is beyond may be swapped, or end the program\n",
            odmoe_size_format(p->ram_bytes, budget), odmoe_size_format(p->available_bytes, available));
}

void model_warning(const odmoe_model *model)
{
    odmoe_plan plan = {.size = sizeof plan};
    odmoe_model_plan(model, &plan);
    if (talkative())
        budget_warning(&plan, stderr);
}

/* The bytes of the character at `at`; *whole says whether it is one: of a malformed or cut-off character these are the
 * bytes that one U+FFFD stands for, as Unicode recommends. The second byte's range keeps out overlong forms, surrogates
 * and what lies beyond U+10FFFF. */
static size_t character_bytes(const unsigned char *at, size_t length, bool *whole)
{
    unsigned char lead = at[0];
    size_t bytes = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    size_t n = 1;
    while (n < bytes && n < length && at[n] >= low && at[n] <= high) {
        n++;
        low = 0x80;
        high = 0xbf;
    }
    *whole = n == bytes;
    return n;
}

json_t *json_text(const char *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *valid = must_alloc(length, strlen(replacement));
    size_t used = 0, bytes;
    for (size_t i = 0; i < length; i += bytes) {
        bool whole;
        bytes = character_bytes((const unsigned char *)text + i, length - i, &whole);
        size_t n = whole ? bytes : strlen(replacement);
        memcpy(valid + used, whole ? text + i : replacement, n);
        used += n;
    }
    json_t *string = json_stringn(valid, used);
    free(valid);
    return string;
}

void json_print(json_t *object, FILE *out)
{
    json_dumpf(object, out, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    fputc('\n', out);
    json_decref(object);
}
