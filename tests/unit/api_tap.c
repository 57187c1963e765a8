/* What a tap shows of a layer's router, against the model's own weights. */
#include "api/handles.h"
#include "format_files.h"
#include "support/golden.h"
#include "support/models.h"

/* The router's matrix times the input that is shown is the logits that are shown. */
static void multiply_input(void *user, const odmoe_tap *tap)
{
    const model *m = user;
    if (!tap->router)
        return;
    const matrix *w = &m->weights.layers[tap->layer].frame[W_ROUTER].w;
    float *router = malloc((size_t)(w->rows * w->cols) * sizeof *router);
    assert_non_null(router);
    compute_floats(w->type, w->data, router, w->rows * w->cols);
    for (int64_t row = 0; row < tap->n; row++)
        for (int64_t e = 0; e < w->rows; e++) {
            double logit = 0;
            for (int64_t i = 0; i < w->cols; i++)
                logit += (double)router[e * w->cols + i] * tap->input[row * w->cols + i];
            assert_float_equal(tap->router[row * w->rows + e], logit, 1e-4);
        }
    free(router);
}

static void a_tap_shows_what_the_router_saw(void **state)
{
    odmoe_options o = small_options();
    odmoe_model *m = must_open(test_path("gguf/qwen3moe-Q4_0.gguf"), &o);
    odmoe_session *session = must_create(m, 40);
    forward_options look = {.on_tap = multiply_input, .user = &m->m};
    must_forward(m, session, text_tokens(0, 2), 2, &look);
    odmoe_session_free(session);
    odmoe_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_tap_shows_what_the_router_saw)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
