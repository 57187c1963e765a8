/* A layer, its source, its gradients and its predictors while memory runs out: an error, nothing leaked, no crash. */
#include "failing_memory.h"

#include <jansson.h>

#include "support/layer_fixture.h"

static const char PATH[] = "layer-memory-test.safetensors";

static odmoe_status train_once(const void *ctx, odmoe_error *err)
{
    const layer_fixture *f = ctx;
    static const odmoe_expert_tensor flat = {.name = "experts", .role = ODMOE_FLAT};
    odmoe_source *source = NULL;
    odmoe_layer *layer = NULL;
    odmoe_tape *tape = NULL;
    odmoe_balance *balance = NULL;
    odmoe_expert_predictor *low_rank = NULL, *network = NULL;
    char *json = NULL;
    float y[60];
    odmoe_source_options so;
    odmoe_source_options_init(&so);
    so.path = PATH;
    so.tensors = &flat;
    so.n_tensors = 1;
    so.experts = f->E;
    so.hidden = f->H;
    so.ffn = f->F;
    so.io = "buffered"; /* io_uring's library is not linked with --wrap */
    odmoe_status status = odmoe_source_open(&so, &source, err);
    if (!status)
        status = odmoe_expert_predictor_create("router_low_rank", &f->options, &low_rank, err);
    if (!status)
        status = odmoe_expert_predictor_create("network", &f->options, &network, err);
    if (!status) {
        odmoe_source_ops ops = {.size = sizeof ops};
        odmoe_predictor predictor = {.size = sizeof predictor};
        odmoe_source_table(source, &ops);
        odmoe_expert_predictor_table(low_rank, &predictor);
        odmoe_layer_options lo = f->options;
        lo.source = &ops;
        lo.predictor = &predictor;
        lo.threads = 1;
        status = odmoe_layer_create(&lo, &layer, err);
    }
    if (!status)
        status = odmoe_balance_create(f->E, &balance, err);
    if (!status)
        status = odmoe_tape_create(1, &tape, err);
    odmoe_routing r;
    odmoe_routing_init(&r);
    r.balance = balance;
    if (!status)
        status = odmoe_layer_forward_train(layer, 0, f->x, f->n, y, &r, tape, err);
    if (!status) {
        odmoe_backward b;
        odmoe_backward_init(&b);
        b.dy = f->x;
        b.aux_coef = 1;
        status = odmoe_layer_backward(layer, tape, &b, err);
    }
    if (!status)
        status = odmoe_layer_forward_stack(layer, f->x, f->n, y, NULL, err);
    if (!status)
        status = odmoe_layer_stats_json(layer, 0, &json, err);
    odmoe_string_free(json);
    odmoe_tape_free(tape);
    odmoe_balance_free(balance);
    odmoe_layer_free(layer);
    odmoe_expert_predictor_free(low_rank);
    odmoe_expert_predictor_free(network);
    odmoe_source_close(source);
    return status;
}

static void every_allocation_of_a_layer_may_fail(void **state)
{
    layer_fixture f;
    fixture_make(&f, 1, 12, 8, 6, 2, 5);
    odmoe_tensor t = {"experts", "F32", 2, {f.E, 3 * f.H * f.F}, f.experts[0]};
    assert_int_equal(odmoe_tensors_save(PATH, &t, 1, &f.err), ODMOE_OK);
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    fail_each(train_once, &f, 30, ODMOE_ERR_MEMORY);
    unlink(PATH);
    fixture_free(&f);
}

static odmoe_status keep_once(const void *ctx, odmoe_error *err)
{
    const layer_fixture *f = ctx;
    odmoe_expert_predictor *low_rank = NULL;
    odmoe_status status = odmoe_expert_predictor_create("router_low_rank", &f->options, &low_rank, err);
    if (!status)
        status = odmoe_expert_predictor_save(low_rank, PATH, err);
    if (!status)
        status = odmoe_expert_predictor_load(low_rank, PATH, err);
    odmoe_expert_predictor_free(low_rank);
    return status;
}

static void every_allocation_of_keeping_a_predictor_may_fail_and_the_file_stays_whole(void **state)
{
    layer_fixture f;
    odmoe_expert_predictor *low_rank;
    fixture_make(&f, 3, 12, 8, 6, 2, 1);
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    assert_int_equal(keep_once(&f, &f.err), ODMOE_OK);
    fail_each(keep_once, &f, 8, ODMOE_ERR_MEMORY);
    assert_int_equal(odmoe_expert_predictor_create("router_low_rank", &f.options, &low_rank, &f.err), ODMOE_OK);
    assert_int_equal(odmoe_expert_predictor_load(low_rank, PATH, &f.err), ODMOE_OK);
    odmoe_expert_predictor_free(low_rank);
    unlink(PATH);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_layer_may_fail),
        cmocka_unit_test(every_allocation_of_keeping_a_predictor_may_fail_and_the_file_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
