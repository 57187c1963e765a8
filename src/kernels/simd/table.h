/* table.h - the entries of a vector table; included by the one .c file of an instruction set, after what it provides:
 * QUANT_OPS(TYPE) and the functions of simd/. */
#ifndef ODMOE_KERNELS_SIMD_TABLE_H
#define ODMOE_KERNELS_SIMD_TABLE_H

#define VECTOR_TABLE(table_name)                                                                                  \
    {                                                                                                             \
        .name = table_name, .ops = {FLOAT_OPS(F32), FLOAT_OPS(F16), FLOAT_OPS(BF16), QUANTISED_TYPES(QUANT_OPS)}, \
        .quantise = {[ACT_F32] = quantise_f32, [ACT_Q8] = quantise_q8, [ACT_Q8K] = quantise_q8k},                 \
        .rms_norm = rms_norm, .softmax = softmax, .silu_mul = silu_mul, .add_scaled = add_scaled,                 \
        .kv_store = kv_store, .attend = attend, .attend_many = attend_many                                        \
    }

#endif
