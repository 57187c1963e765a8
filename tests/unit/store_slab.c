/* Where experts lie in files and in the slab: layout, size classes, regions, and the directory over them. */
#include "store_fixture.h"

#include "store/cache.h"

#define KIB 1024u

static expert_extent extent(uint64_t offset, int64_t halves)
{
    return (expert_extent){.offset = offset, .length = (uint64_t)halves * 2};
}

static void a_range_is_the_aligned_blocks_around_an_extent(void **state)
{
    expert_extent p[] = {extent(1000003, 50001), extent(77, 3)};
    expert_layout l;
    layout_of(p, 2, &l);
    assert_int_equal(l.ranges, 2);
    assert_int_equal(l.range[0].offset, 0); /* in file order */
    assert_int_equal(l.range[0].bytes, 4096);
    assert_int_equal(l.extent_at[1], 77);
    assert_int_equal(l.range[1].offset, 999424);
    assert_int_equal(l.range[1].bytes, (1000003 + 100002 + 4095) / 4096 * 4096 - 999424);
    assert_int_equal(l.range[1].needed, 1000003 + 100002 - 999424);
    assert_int_equal(l.extent_at[0], 4096 + 1000003 - 999424);
    assert_int_equal(l.bytes, l.range[0].bytes + l.range[1].bytes);
}

static void extents_that_share_a_block_share_a_range(void **state)
{
    expert_extent p[] = {extent(30000, 5000), extent(10000, 10000),
                         extent(41000, 100)}; /* 10000..30000..40000, 41000.. */
    expert_layout l;
    layout_of(p, 3, &l);
    assert_int_equal(l.ranges, 1);
    assert_int_equal(l.range[0].offset, 8192);
    assert_int_equal(l.bytes, 45056 - 8192);
    assert_int_equal(l.extent_at[0], 30000 - 8192);
    assert_int_equal(l.extent_at[1], 10000 - 8192);
    assert_int_equal(l.extent_at[2], 41000 - 8192);
    p[1].file = 1; /* another file: nothing to share */
    layout_of(p, 3, &l);
    assert_int_equal(l.ranges, 2);
}

/* Up to four sizes, close ones among them, in any order. */
static void room_for_all_and_more_holds_all_whatever_the_order(void **state)
{
    uint64_t seed = 5;
    for (int round = 0; round < 400; round++) {
        enum { IDS_MAX = 300 };
        uint64_t need[IDS_MAX], sizes[4], bytes, sum = 0, largest = 0;
        int32_t order[IDS_MAX], ids = 1 + (int32_t)(fixture_random(&seed) % IDS_MAX);
        int kinds = 1 + (int)(fixture_random(&seed) % 4);
        uint64_t base = 20 + fixture_random(&seed) % 400;
        for (int k = 0; k < kinds; k++)
            sizes[k] = LAYOUT_ALIGN * (base - fixture_random(&seed) % (round % 2 ? 10 : base));
        for (int32_t id = 0; id < ids; id++) {
            need[id] = sizes[fixture_random(&seed) % (uint32_t)kinds];
            sum += need[id];
            largest = need[id] > largest ? need[id] : largest;
            int32_t j = (int32_t)(fixture_random(&seed) % (uint32_t)(id + 1));
            order[id] = order[j];
            order[j] = id;
        }
        slab s;
        assert_int_equal(slab_bytes_for_all(need, ids, &bytes, NULL), ODMOE_OK);
        assert_int_equal(slab_init(&s, bytes, need, ids, NULL), ODMOE_OK);
        assert_true(slab_holds_all(&s, ids));
        for (int32_t i = 0; i < ids; i++)
            if (slab_take(&s, order[i]) < 0)
                fail_msg("round %d: no room for expert %d of %d", round, i, ids);
        assert_true(bytes >= sum && bytes <= (uint64_t)(ids + 4 * 64) * largest);
        slab_clear(&s);
        cache c;
        const policy_ops *ops;
        assert_int_equal(policy_find("lru", &ops, NULL), ODMOE_OK);
        uint64_t more = bytes + fixture_random(&seed) % 80 * largest; /* regions would be cut in another way */
        assert_int_equal(cache_init(&c, 1, ids, need, more, ops, NULL), ODMOE_OK);
        assert_true(slab_holds_all(&c.slab, ids) && c.slab.bytes <= more);
        cache_clear(&c);
    }
}

/* What is lost when a whole region holds experts of one size. */
static double region_loss(const slab *s, int32_t size_class, double data_bytes)
{
    const slab_region *g = &s->region[0];
    double slots = (double)(g->bytes / s->class_bytes[size_class]);
    return 1 - slots * data_bytes / (double)g->bytes;
}

static void at_most_five_percent_is_lost_to_rounding(void **state)
{
    uint64_t seed = 3;
    for (int round = 0; round < 300; round++) {
        enum { IDS = 32 };
        int kinds = 1 + (int)(fixture_random(&seed) % 4);
        int64_t halves[4][3];
        uint64_t need[IDS], data[IDS], offset = 0;
        for (int k = 0; k < kinds; k++)
            for (int i = 0; i < 3; i++)
                halves[k][i] = 128 * KIB + fixture_random(&seed) % (1024 * KIB);
        for (int id = 0; id < IDS; id++) {
            expert_extent p[3];
            expert_layout l;
            data[id] = 0;
            for (int i = 0; i < 3; i++) {
                offset += 100000 + fixture_random(&seed) % 100000;
                p[i] = extent(offset, halves[id % kinds][i]);
                offset += p[i].length;
                data[id] += p[i].length;
            }
            layout_of(p, 3, &l);
            need[id] = l.bytes;
        }
        slab s;
        assert_int_equal(slab_init(&s, 600ull * 1024 * KIB, need, IDS, NULL), ODMOE_OK);
        for (int id = 0; id < IDS; id++)
            if (region_loss(&s, s.class_of[id], (double)data[id]) > 0.05)
                fail_msg("round %d: %.4f lost", round, region_loss(&s, s.class_of[id], (double)data[id]));
        slab_clear(&s);
    }
}

static void as_many_of_the_largest_fit_as_the_bytes_allow(void **state)
{
    uint64_t need[] = {700 * KIB, 300 * KIB, 512 * KIB};
    for (uint64_t room = 1; room < 40; room++) {
        slab s;
        assert_int_equal(slab_init(&s, room * 700 * KIB + 4096, need, 3, NULL), ODMOE_OK);
        for (uint64_t i = 0; i < room; i++)
            assert_true(slab_take(&s, 0) >= 0);
        assert_int_equal(slab_take(&s, 0), -1);
        slab_clear(&s);
    }
    slab s;
    assert_int_equal(slab_init(&s, 700 * KIB - 1, need, 3, NULL), ODMOE_ERR_BUDGET);
    slab_clear(&s);
}

static void slots_do_not_overlap_and_stay_inside(void **state)
{
    enum { IDS = 40, BYTES = 9000 * KIB };
    uint64_t need[IDS], seed = 9;
    int32_t slot[IDS];
    slab s;
    const char *what;
    for (int id = 0; id < IDS; id++) {
        need[id] = (25 + 12 * (uint64_t)(id % 5)) * LAYOUT_ALIGN;
        slot[id] = -1;
    }
    assert_int_equal(slab_init(&s, BYTES, need, IDS, NULL), ODMOE_OK);
    for (int step = 0; step < 20000; step++) {
        int32_t id = (int32_t)(fixture_random(&seed) % IDS);
        if (slot[id] >= 0) {
            slab_give(&s, slot[id]);
            slot[id] = -1;
        } else {
            slot[id] = slab_take(&s, id);
        }
        if (slot[id] < 0)
            continue;
        uint64_t at = slab_at(&s, slot[id]), end = at + slab_slot_bytes(&s, id);
        assert_true(end <= BYTES && slab_slot_bytes(&s, id) >= need[id] && at % LAYOUT_ALIGN == 0);
        for (int32_t other = 0; other < IDS; other++)
            if (other != id && slot[other] >= 0)
                assert_true(slab_at(&s, slot[other]) >= end ||
                            slab_at(&s, slot[other]) + slab_slot_bytes(&s, other) <= at);
        if (!slab_check(&s, &what))
            fail_msg("%s", what);
    }
    slab_clear(&s);
}

/* ---- the directory ---- */

typedef struct directory {
    cache c;
    int32_t pins[64];
} directory;

static void check(const directory *d)
{
#ifndef NDEBUG
    const char *what;
    if (!cache_check(&d->c, &what))
        fail_msg("%s", what);
#endif
    for (int32_t id = 0; id < d->c.ids; id++) /* eviction never touches a pin */
        assert_true(d->c.entry[id].pins == d->pins[id] && (!d->pins[id] || d->c.entry[id].state == CACHE_READY));
}

static void one_step(directory *d, uint64_t *seed)
{
    cache *c = &d->c;
    int32_t id = (int32_t)(fixture_random(seed) % (uint32_t)c->ids);
    cache_entry *e = &c->entry[id];
    switch (fixture_random(seed) % 10) {
    case 0:
    case 1:
        if (e->waiters < 3)
            cache_add_waiter(c, id, (int32_t)(fixture_random(seed) % 8));
        break;
    case 2:
        if (e->waiters)
            cache_drop_waiter(c, id);
        break;
    case 3:
        if (e->state == CACHE_EMPTY)
            cache_enqueue(c, id, fixture_random(seed) % 2 ? READ_CERTAIN : READ_SPECULATIVE);
        else if (e->state == CACHE_QUEUED && !e->waiters)
            cache_dequeue(c, id);
        break;
    case 4:
    case 5:
        if (e->state == CACHE_QUEUED)
            cache_start(c, id, (evict_scope)(fixture_random(seed) % 3));
        break;
    case 6:
        if (e->state == CACHE_READING)
            cache_arrived(c, id);
        break;
    case 7:
        if (e->state == CACHE_READING && fixture_random(seed) % 2)
            cache_failed(c, id, 5);
        else if (e->state == CACHE_READING)
            cache_retry(c, id);
        break;
    case 8:
        if (cache_is_ready(c, id) && e->waiters) {
            cache_give(c, id);
            cache_note(c, id, 1 + fixture_random(seed) % 9);
            d->pins[id]++;
        } else if (e->pins) {
            cache_unpin(c, id);
            d->pins[id]--;
        }
        break;
    default:
        if (fixture_random(seed) % 4)
            cache_begin(c, id / c->experts, (fetch_size){FETCH_DECODE, 1, 1});
        else
            cache_invalidate(c, id);
    }
}

static void every_transition_keeps_the_directory_whole(void **state)
{
    for (int i = 0; policy_at(i); i++) {
        directory d = {0};
        uint64_t need[64], seed = 21;
        for (int id = 0; id < 64; id++)
            need[id] = (uint64_t)(8 + 8 * (id / 16)) * LAYOUT_ALIGN;
        assert_int_equal(cache_init(&d.c, 4, 16, need, 18 * 32 * LAYOUT_ALIGN, policy_at(i), NULL), ODMOE_OK);
        for (int step = 0; step < 20000; step++) {
            one_step(&d, &seed);
            check(&d);
        }
        assert_true(d.c.evictions > 100);
        cache_clear(&d.c);
    }
}

static void without_pins_and_reads_any_expert_finds_room(void **state)
{
    directory d = {0};
    uint64_t need[64], seed = 4;
    for (int id = 0; id < 64; id++)
        need[id] = (uint64_t)(8 + 3 * (id % 7)) * LAYOUT_ALIGN;
    for (uint64_t room = 1; room < 12; room++) { /* from the floor up */
        assert_int_equal(cache_init(&d.c, 4, 16, need, room * 26 * LAYOUT_ALIGN, policy_at(0), NULL), ODMOE_OK);
        for (int step = 0; step < 3000; step++) {
            int32_t id = (int32_t)(fixture_random(&seed) % 64);
            if (d.c.entry[id].state != CACHE_EMPTY)
                continue;
            cache_add_waiter(&d.c, id, 0); /* it stays wanted: all the others are in the way of the next */
            assert_true(cache_start(&d.c, id, EVICT_UNPINNED));
            cache_arrived(&d.c, id);
            if (step % 3)
                cache_drop_waiter(&d.c, id);
            check(&d);
        }
        cache_clear(&d.c);
    }
}

/* ---- the index ---- */

static void the_index_gives_extents_back_with_their_tags(void **state)
{
    expert_index *x = expert_index_create(2, 4, NULL);
    int n;
    for (int l = 0; l < 2; l++)
        for (int e = 0; e < 4; e++)
            for (uint32_t i = 0; i < 5; i++) {
                expert_extent p = {.file = (int)i % 2,
                                   .tag = 7 + i,
                                   .offset = (uint64_t)(l * 100 + e * 10) + i,
                                   .length = 1 + i + (uint64_t)l};
                assert_int_equal(expert_index_append(x, l, e, &p, NULL), ODMOE_OK);
            }
    assert_int_equal(expert_index_check(x, NULL), ODMOE_OK);
    const expert_extent *p = expert_index_extents(x, 1, 2, &n);
    assert_int_equal(n, 5);
    assert_true(p[3].file == 1 && p[3].tag == 10 && p[3].offset == 123 && p[3].length == 5);
    assert_int_equal(expert_index_largest_bytes(x), 2 + 3 + 4 + 5 + 6);
    assert_int_equal(expert_index_smallest_bytes(x), 1 + 2 + 3 + 4 + 5);
    assert_int_equal(expert_index_total_bytes(x), 4 * (20 + 15));
    expert_index_free(x);
}

static void the_index_refuses_what_does_not_fit(void **state)
{
    odmoe_error err;
    assert_null(expert_index_create(0, 4, &err));
    assert_null(expert_index_create(1, 100000000, &err));
    expert_index *x = expert_index_create(1, 4, NULL);
    assert_int_equal(expert_index_check(x, &err), ODMOE_ERR_FORMAT);
    expert_extent p[EXPERT_EXTENTS_MAX + 1];
    for (int i = 0; i <= EXPERT_EXTENTS_MAX; i++)
        p[i] = extent(0, 10);
    assert_int_equal(expert_index_set(x, 0, 4, p, 1, &err), ODMOE_ERR_ARG);
    assert_int_equal(expert_index_set(x, 0, 0, p, EXPERT_EXTENTS_MAX + 1, &err), ODMOE_ERR_ARG);
    assert_int_equal(expert_index_set(x, 0, 0, p, 0, &err), ODMOE_ERR_ARG);
    assert_int_equal(expert_index_set(x, 0, 0, p, EXPERT_EXTENTS_MAX, &err), ODMOE_OK);
    assert_int_equal(expert_index_append(x, 0, 0, p, &err), ODMOE_ERR_ARG);
    p[0].length = 0;
    assert_int_equal(expert_index_set(x, 0, 1, p, 1, &err), ODMOE_ERR_ARG);
    p[0] = extent(UINT64_MAX - 4, 10);
    assert_int_equal(expert_index_set(x, 0, 1, p, 1, &err), ODMOE_ERR_ARG);
    p[0] = extent(0, 10);
    p[0].file = -1;
    assert_int_equal(expert_index_set(x, 0, 1, p, 1, &err), ODMOE_ERR_ARG);
    p[0] = extent(0, 10);
    for (int e = 1; e < 4; e++)
        assert_int_equal(expert_index_set(x, 0, e, p, 1, &err), ODMOE_OK);
    assert_int_equal(expert_index_check(x, &err), ODMOE_ERR_FORMAT); /* 0 has sixteen extents, the others one */
    assert_string_equal(err.message, "layer 0, expert 1: has other tensors than expert 0 of the same layer");
    assert_int_equal(expert_index_set(x, 0, 0, p, 1, &err), ODMOE_OK);
    assert_int_equal(expert_index_check(x, &err), ODMOE_OK);
    p[0].tag = 1;
    assert_int_equal(expert_index_set(x, 0, 3, p, 1, &err), ODMOE_OK);
    assert_int_equal(expert_index_check(x, &err), ODMOE_ERR_FORMAT); /* another tag */
    expert_index_free(x);
    expert_index_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_the_aligned_blocks_around_an_extent),
        cmocka_unit_test(extents_that_share_a_block_share_a_range),
        cmocka_unit_test(room_for_all_and_more_holds_all_whatever_the_order),
        cmocka_unit_test(at_most_five_percent_is_lost_to_rounding),
        cmocka_unit_test(as_many_of_the_largest_fit_as_the_bytes_allow),
        cmocka_unit_test(slots_do_not_overlap_and_stay_inside),
        cmocka_unit_test(every_transition_keeps_the_directory_whole),
        cmocka_unit_test(without_pins_and_reads_any_expert_finds_room),
        cmocka_unit_test(the_index_gives_extents_back_with_their_tags),
        cmocka_unit_test(the_index_refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
