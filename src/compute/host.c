#include "compute/host.h"

#include "kernels/kernels.h"

void host_product(const struct kernel_table *k, const float *w, int64_t rows, int64_t cols, const float *x, int64_t n,
                  float *y, int64_t ldy)
{
    const int64_t bytes = cols * (int64_t)sizeof(float);
    k->ops[DTYPE_F32].matmul(w, bytes, rows, cols, x, bytes, n, y, ldy);
}

void host_product_transposed(const struct kernel_table *k, const float *w, int64_t rows, int64_t cols, const float *x,
                             int64_t ldx, int64_t n, float *y, int64_t ldy)
{
    k->ops[DTYPE_F32].matmul_kn(w, cols * (int64_t)sizeof(float), rows, cols, x, ldx, n, y, ldy);
}

void host_add_scaled(const struct kernel_table *k, float *y, const float *x, float a, int64_t n)
{
    k->add_scaled(y, x, a, n);
}

void host_softmax(const struct kernel_table *k, float *x, int64_t n)
{
    k->softmax(x, n);
}

void host_silu_mul(const struct kernel_table *k, const float *gate, const float *up, float *y, int64_t n)
{
    k->silu_mul(gate, up, y, n);
}
