/* Attention in every table that this machine runs, against `ref` and exact exponentials. Each page of keys and of values
 * lies apart and ends at an unmapped page, so that a read beyond one ends the test; so does a read of a page that no
 * query's range needs. */
#include <stdlib.h>

#include "random_data.h"

enum { PAGES = 6, QUERIES = 70, MOST_DIM = 576 };

typedef struct cache {
    fenced keys[PAGES], values[PAGES];
    const void *key_pages[PAGES], *value_pages[PAGES];
} cache;

/* Pages [first, ...] of `positions` positions, each with `offset` bytes before its keys and its values. */
static cache cache_new(const kernel_table *table, const attend_args *a, int64_t first, int64_t positions)
{
    static float x[MOST_DIM];
    cache c = {0};
    for (int64_t p = first; p * ATTEND_BLOCK < positions; p++) {
        int64_t n = positions - p * ATTEND_BLOCK < ATTEND_BLOCK ? positions - p * ATTEND_BLOCK : ATTEND_BLOCK;
        size_t key_bytes = a->key_offset + ATTEND_BLOCK * kv_bytes(a->type, a->key_dim);
        size_t value_bytes = a->value_offset + (size_t)((n - 1) * a->value_stride) + kv_bytes(a->type, a->value_dim);
        c.keys[p] = fenced_new(key_bytes);
        c.values[p] = fenced_new(value_bytes);
        memset(c.keys[p].data, 0xff, key_bytes); /* NaN where nothing is stored */
        for (int64_t i = 0; i < n; i++) {
            fill_floats(ORDINARY, x, a->key_dim);
            table->key_store(a->type, x, c.keys[p].data + a->key_offset, i, a->key_dim);
            fill_floats(ORDINARY, x, a->value_dim);
            table->kv_store(a->type, x, c.values[p].data + a->value_offset + i * a->value_stride, a->value_dim);
        }
        c.key_pages[p] = c.keys[p].data;
        c.value_pages[p] = c.values[p].data;
    }
    return c;
}

static void cache_free(cache c)
{
    for (int p = 0; p < PAGES; p++)
        if (c.keys[p].map) {
            fenced_free(c.keys[p]);
            fenced_free(c.values[p]);
        }
}

/* All queries together, each alone, and in `ref`: the first two equal, the third near. */
static void check_attention(const kernel_table *table, attend_args a)
{
    static float q[QUERIES][MOST_DIM], out[QUERIES][MOST_DIM], one[MOST_DIM], expected[MOST_DIM];
    static _Alignas(64) char scratch[ATTEND_SCRATCH];
    fill_floats(ORDINARY, &q[0][0], QUERIES * MOST_DIM);
    memset(scratch, 0xff, sizeof scratch); /* NaN where nothing was written */
    a.scratch = scratch;
    a.q = &q[0][0];
    a.out = &out[0][0];
    a.q_stride = a.out_stride = MOST_DIM;
    a.n = QUERIES;
    table->attend(&a);
    for (int m = 0; m < QUERIES; m++) {
        attend_args single = a;
        single.q = q[m];
        single.n = 1;
        single.first = a.first + m;
        single.last = a.last + m;
        single.sinks = a.sinks ? a.sinks + m : NULL;
        single.out = one;
        table->attend(&single);
        assert_memory_equal(one, out[m], (size_t)a.value_dim * sizeof *one);
        single.out = expected;
        kernel_table_find("ref")->attend(&single);
        for (int64_t c = 0; c < a.value_dim; c++)
            if (!(fabsf(one[c] - expected[c]) <= 2e-5f))
                fail_msg("%s: query %d, column %d: %g instead of %g", table->name, m, (int)c, (double)one[c],
                         (double)expected[c]);
    }
}

typedef struct attention_shape {
    int64_t key_dim, value_dim;
    int positions, window; /* no query looks at what is before `window` */
    bool value_in_key;
} attention_shape;

/* A prompt's causal ranges, some with a window. Variants 1 and 3 have a cap and room around a head, 2 and 3 have sinks. */
static void check_shape(const kernel_table *table, kv_type type, attention_shape s, int variant)
{
    int64_t first[QUERIES], last[QUERIES];
    float sinks[QUERIES];
    for (int m = 0; m < QUERIES; m++) {
        last[m] = m < 60 ? s.positions - QUERIES + m + 1 : s.window + 1 + below(s.positions - s.window);
        first[m] = m % 3 ? s.window : s.window + below((int)last[m] - s.window);
        sinks[m] = (float)uniform() * 20;
    }
    attend_args a = {.type = type, .key_dim = s.key_dim, .value_dim = s.value_dim, .scale = 0.4f};
    a.value_stride = (int64_t)kv_bytes(type, s.value_dim);
    if (variant % 2) {
        a.key_offset = 70;
        a.value_offset = 34;
        a.value_stride += 6;
        a.softcap = 3;
    }
    if (variant > 1)
        a.sinks = sinks;
    a.first = first;
    a.last = last;
    cache c = cache_new(table, &a, s.window / ATTEND_BLOCK, s.positions);
    a.key_pages = c.key_pages;
    a.value_pages = s.value_in_key ? NULL : c.value_pages;
    check_attention(table, a);
    cache_free(c);
}

static void attention_is_near_refs_and_the_same_alone_or_in_a_group(void **state)
{
    static const attention_shape shapes[] = {
        {128, 128, 333, 0, false}, {64, 64, 333, 150, false},  {8, 8, 333, 0, false},     {80, 80, 333, 128, false},
        {40, 40, 333, 0, false},   {33, 33, 333, 0, false},    {130, 130, 333, 0, false}, {192, 128, 333, 0, false},
        {64, 96, 333, 0, false},   {576, 512, 180, 70, false}, {576, 512, 180, 0, true},  {96, 96, 260, 0, true},
        {52, 41, 260, 0, true}};
    const kernel_table *table;
    for (int i = 0; (table = vector_table(i)); i++)
        for (kv_type type = 0; type < KV_COUNT; type++)
            for (size_t h = 0; h < sizeof shapes / sizeof *shapes; h++)
                if (type != KV_Q8_0 || (shapes[h].key_dim % 32 == 0 && shapes[h].value_dim % 32 == 0))
                    check_shape(table, type, shapes[h], (int)(h + type) % 4);
}

/* Position 0 has score 0 and position 1 a negative one; the second column of the result over the first is the weight.
 */
static void weights_of_attention_are_accurate_exponentials(void **state)
{
    enum { HEAD = 32 };
    static float keys[ATTEND_BLOCK * HEAD], values[2 * HEAD];
    static _Alignas(64) char scratch[ATTEND_SCRATCH];
    static const int64_t first = 0, last = 2;
    const void *key_page = keys, *value_page = values;
    float q[HEAD] = {0}, key[HEAD] = {0}, out[HEAD];
    attend_args a = {.type = KV_F32, .key_dim = HEAD, .value_dim = HEAD, .scale = 1, .n = 1, .first = &first};
    a.key_pages = &key_page;
    a.value_pages = &value_page;
    a.value_stride = HEAD * sizeof *values;
    a.last = &last;
    a.q = q;
    a.out = out;
    a.scratch = scratch;
    const kernel_table *table;
    q[0] = 1;
    values[0] = values[HEAD + 1] = 1;
    for (int i = 0; (table = vector_table(i)); i++)
        for (int k = 0; k < 20000; k++) {
            float x = (float)uniform() * (k % 2 ? 3 : 42) - (k % 2 ? 3 : 42);
            memset(keys, 0, sizeof keys);
            key[0] = x;
            table->key_store(KV_F32, key, keys, 1, HEAD);
            table->attend(&a);
            double exact = exp((double)x), got = (double)out[1] / (double)out[0];
            /* roundings: of the weight and of two quotients; of log2 e and of the exponent of 2, which grow with |x| */
            assert_true(fabs(got / exact - 1) <= (4 + fabs((double)x)) * 0x1p-23);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_near_refs_and_the_same_alone_or_in_a_group),
        cmocka_unit_test(weights_of_attention_are_accurate_exponentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
