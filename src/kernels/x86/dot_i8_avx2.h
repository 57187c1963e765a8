/* dot_i8_avx2.h - exact integer sums with AVX2. maddubs multiplies unsigned with signed bytes and adds two products in
 * 16 bits, saturating: weights are at most 128, activations at most 127, so a pair stays below 2^15, and for narrower
 * weights several pairs do. Signed weights give their sign to the activation. See gemm_quant.h. */
#ifndef ODMOE_KERNELS_X86_DOT_I8_AVX2_H
#define ODMOE_KERNELS_X86_DOT_I8_AVX2_H

#include "kernels/act.h"
#include "kernels/simd/gemm_float.h"
#include "kernels/x86/unpack.h"

ALWAYS_INLINE __m256i panel_bytes(quant_kind kind, __m256i q)
{
    return q;
}
ALWAYS_INLINE int panel_offset(quant_kind kind)
{
    return kind.offset;
}
/* a pair of equal 16-bit numbers each, as madd wants them */
ALWAYS_INLINE void panel_scales(quant_kind kind, __m256i scale, uint32_t *out)
{
    __m256i low = _mm256_permute4x64_epi64(scale, 0x10); /* lanes 0-3 and 4-7 in the lower quarters of the halves */
    __m256i high = _mm256_permute4x64_epi64(scale, 0x32);
    _mm256_storeu_si256((__m256i *)out, _mm256_unpacklo_epi16(low, low));
    if (kind.sub == 16)
        _mm256_storeu_si256((__m256i *)out + 1, _mm256_unpacklo_epi16(high, high));
}

/* 16 pairs of products in 16 bits */
ALWAYS_INLINE __m256i byte_pairs(bool is_signed, __m256i w, __m256i a)
{
    if (is_signed)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    return _mm256_maddubs_epi16(w, a);
}

/* ---- few tokens ----
 *
 * Multiplying 16-bit sums by their scales is what a core does mins of at a time, and a scale has to be spread over the
 * lanes first. So sums of several sub-blocks are brought together in one register before, as long as 16 bits hold them:
 * halves of a register are added, registers interleaved and added, and each such step halves what is left to multiply.
 */

enum { ROW_TOKENS = 2 }; /* that rows are multiplied with at a time */
enum { ROW_UNROLL = 1 }; /* rows side by side in the code; more of the larger types would not fit its cache */

/* The smallest number of tokens for which packing a panel is faster; lower for types that take long to unpack. */
ALWAYS_INLINE int panel_tokens(dtype t)
{
    switch (t) {
    case DTYPE_MXFP4:
    case DTYPE_TQ1_0:
        return 3;
    case DTYPE_IQ1_S:
    case DTYPE_IQ1_M:
    case DTYPE_IQ3_S:
        return 4;
    case DTYPE_IQ2_S:
    case DTYPE_IQ3_XXS:
        return 5;
    default:
        return block_size[t].length == 32 ? 6 : 9;
    }
}

typedef __m128i row_sums; /* lanes that add up to a row's sum over a block */

ALWAYS_INLINE row_sums row_sums_zero(void)
{
    return _mm_setzero_si128();
}
ALWAYS_INLINE __m128i add_halves_16(__m256i v)
{
    return _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
ALWAYS_INLINE __m128i add_halves_32(__m256i v)
{
    return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
ALWAYS_INLINE row_sums row_min_sums(quant_kind kind, __m256i min, const act_q8k *a)
{
    return kind.sub == 16 ? add_halves_32(times_sums(kind, min, a)) : _mm256_castsi256_si128(times_sums(kind, min, a));
}

/* out[i] = sum of the lanes of v[i] */
ALWAYS_INLINE __m128i hsum4(const row_sums v[4])
{
    __m128i a = _mm_add_epi32(_mm_unpacklo_epi32(v[0], v[1]), _mm_unpackhi_epi32(v[0], v[1]));
    __m128i b = _mm_add_epi32(_mm_unpacklo_epi32(v[2], v[3]), _mm_unpackhi_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b));
}
ALWAYS_INLINE __m256i hsum8(const row_sums v[8])
{
    return _mm256_set_m128i(hsum4(v + 4), hsum4(v));
}

/* Registers a and b interleaved by `bytes`, 2 or 4, halves added: twice the sub-blocks in as many lanes. */
ALWAYS_INLINE __m128i merge(int bytes, __m128i a, __m128i b)
{
    if (bytes == 2)
        return _mm_add_epi16(_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
    return _mm_add_epi16(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
}
ALWAYS_INLINE __m256i merge_halves(int bytes, __m256i a, __m256i b) /* the same in each half; 8 too */
{
    if (bytes == 2)
        return _mm256_add_epi16(_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
    if (bytes == 4)
        return _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    return _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* How often two of a kind's 16-bit sums of two products may be added. */
ALWAYS_INLINE int merges_of(quant_kind kind)
{
    return kind.largest <= 16 ? 3 : kind.largest <= 32 ? 2 : kind.largest <= 64 ? 1 : 0;
}

/* Bytes of a shuffle that repeats `count` 16-bit lanes from lane `first` on, `step` apart, over eight lanes. */
ALWAYS_INLINE __m128i repeat_lanes(int first, int count, int step)
{
    int lane[8];
    for (int i = 0; i < 8; i++)
        lane[i] = (first + i % count * step) * 0x202 + 0x100;
    return _mm_setr_epi16((short)lane[0], (short)lane[1], (short)lane[2], (short)lane[3], (short)lane[4],
                          (short)lane[5], (short)lane[6], (short)lane[7]);
}

/* Sums of `each` sub-blocks (of 16: twice as many) from number `first` on, times their scales. */
ALWAYS_INLINE __m256i scaled_pairs(int sub, int first, __m256i pairs, __m256i scales, int each)
{
    int lane = sub == 16 ? 2 * first : first;
    __m128i half = lane < 8 ? _mm256_castsi256_si128(scales) : _mm256_extracti128_si256(scales, 1);
    __m256i twice = _mm256_set_m128i(half, half);
    __m256i lanes = sub == 16 ? _mm256_set_m128i(repeat_lanes(lane % 8 + 1, each, 2), repeat_lanes(lane % 8, each, 2))
                              : _mm256_set_m128i(repeat_lanes(lane, each, 1), repeat_lanes(lane, each, 1));
    return _mm256_madd_epi16(pairs, _mm256_shuffle_epi8(twice, lanes));
}

/* s0 s2 … s14 | s1 s3 … s15 */
ALWAYS_INLINE __m256i even_then_odd(__m256i scale)
{
    const __m128i even = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m128i low = _mm_shuffle_epi8(_mm256_castsi256_si128(scale), even);
    __m128i high = _mm_shuffle_epi8(_mm256_extracti128_si256(scale, 1), even);
    return _mm256_set_m128i(_mm_unpackhi_epi64(low, high), _mm_unpacklo_epi64(low, high));
}

ALWAYS_INLINE __m256i token_bytes(const char *act, int j)
{
    return load32((const uint8_t *)((const act_q8k *)act)->q + 32 * j);
}

/* Products of sub-block i of a pair with its 32 activations, two each in 16 bits. */
ALWAYS_INLINE __m256i pair_products(quant_kind kind, const weight_pair *p, int i, __m256i a)
{
    return _mm256_maddubs_epi16(p->q[i], kind.is_signed ? _mm256_sign_epi8(a, p->s[i]) : a);
}

/* sum[k] = lanes that add up to the sum of scale * weight * activation over a block, for each token k. Sub-blocks of 32
 * whose sums may be merged at least twice. */
ALWAYS_INLINE void merged_32(dtype t, const uint8_t *block, __m256i scales, int tokens, const char *act,
                             int64_t act_row, row_sums sum[ROW_TOKENS])
{
    __m128i two[ROW_TOKENS][4], scale = _mm256_castsi256_si128(scales);
    quant_kind kind = kind_of(t);
    int merges = merges_of(kind);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        weight_pair p;
        unpack_pair(t, block, j, &p);
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++) {
            const char *a = act + k * act_row;
            two[k][j] = merge(2, add_halves_16(pair_products(kind, &p, 0, token_bytes(a, 2 * j))),
                              add_halves_16(pair_products(kind, &p, 1, token_bytes(a, 2 * j + 1))));
            if (merges == 2)
                sum[k] = _mm_add_epi32(sum[k],
                                       _mm_madd_epi16(two[k][j], _mm_shuffle_epi8(scale, repeat_lanes(2 * j, 2, 1))));
            else if (j % 2)
                sum[k] = _mm_add_epi32(sum[k], _mm_madd_epi16(merge(4, two[k][j - 1], two[k][j]),
                                                              _mm_shuffle_epi8(scale, repeat_lanes(2 * j - 2, 4, 1))));
        }
    }
}

/* The same where halves of registers have scales of their own (sub-blocks of 16), or sums may be merged once at most.
 */
ALWAYS_INLINE void merged_halves(dtype t, const uint8_t *block, __m256i scales, int tokens, const char *act,
                                 int64_t act_row, row_sums sum[ROW_TOKENS])
{
    __m256i two[ROW_TOKENS][4], four[ROW_TOKENS][2], total[ROW_TOKENS];
    quant_kind kind = kind_of(t);
    int sub = kind.sub, merges = merges_of(kind);
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        total[k] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        weight_pair p;
        unpack_pair(t, block, j, &p);
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++) {
            const char *a = act + k * act_row;
            __m256i x = pair_products(kind, &p, 0, token_bytes(a, 2 * j));
            __m256i y = pair_products(kind, &p, 1, token_bytes(a, 2 * j + 1));
            if (!merges) {
                total[k] = _mm256_add_epi32(total[k], scaled_pairs(sub, 2 * j, x, scales, 1));
                total[k] = _mm256_add_epi32(total[k], scaled_pairs(sub, 2 * j + 1, y, scales, 1));
                continue;
            }
            two[k][j] = merge_halves(2, x, y);
            if (merges < 3)
                total[k] = _mm256_add_epi32(total[k], scaled_pairs(sub, 2 * j, two[k][j], scales, 2));
            else if (j % 2)
                four[k][j / 2] = merge_halves(4, two[k][j - 1], two[k][j]);
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++) {
        if (merges == 3)
            total[k] = _mm256_madd_epi16(merge_halves(8, four[k][0], four[k][1]), even_then_odd(scales));
        sum[k] = add_halves_32(total[k]);
    }
}

/* The same for types that are unpacked as a whole. */
ALWAYS_INLINE row_sums scaled_whole(quant_kind kind, const unpacked *u, const char *act)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i pairs = byte_pairs(kind.is_signed, u->q[j], token_bytes(act, j));
        sum = _mm256_add_epi32(sum, scaled_pairs(kind.sub, j, pairs, u->scale, 1));
    }
    return add_halves_32(sum);
}

/* Row i's sums over a block of scale * weight * activation and, where there is one, minimum * activation, for each
 * token. */
ALWAYS_INLINE void row_sums_256(dtype t, const uint8_t *block, int tokens, const char *act, int64_t act_row, int i,
                                row_sums sum[ROW_TOKENS][8], row_sums min[ROW_TOKENS][8])
{
    quant_kind kind = kind_of(t);
    row_sums s[ROW_TOKENS];
    unpacked u;
    /* Rows use the same activations: the compiler would keep them in registers, of which there are too few. */
    __asm__ volatile("" : "+r"(act));
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        s[k] = row_sums_zero();
    if (has_pairs(t)) {
        unpack_scales(t, block, &u);
        if (kind.sub == 32 && merges_of(kind) >= 2)
            merged_32(t, block, u.scale, tokens, act, act_row, s);
        else
            merged_halves(t, block, u.scale, tokens, act, act_row, s);
    } else {
        unpack_256(t, block, &u);
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++)
            s[k] = scaled_whole(kind, &u, act + k * act_row);
    }
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++) {
        const act_q8k *a = (const act_q8k *)(act + k * act_row);
        if (kind.offset)
            s[k] = _mm_sub_epi32(
                s[k], _mm_slli_epi32(row_min_sums(kind, u.scale, a), __builtin_ctz((unsigned)panel_offset(kind))));
        sum[k][i] = s[k];
        if (kind.has_min)
            min[k][i] = row_min_sums(kind, u.min, a);
    }
}

/* Lanes that add up to the sum of (weight + panel_offset) * activation. */
ALWAYS_INLINE row_sums sum_32(quant_kind kind, __m256i q, const act_q8 *a)
{
    __m256i pairs = byte_pairs(kind.is_signed, q, _mm256_loadu_si256((const __m256i *)a->q));
    if (merges_of(kind) > 0)
        return _mm_madd_epi16(add_halves_16(pairs), _mm_set1_epi16(1));
    return add_halves_32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* total[k][i] = sum of weight * activation over row i's block of 32, for each token k. */
ALWAYS_INLINE void eight_sums_32(dtype t, const uint8_t *const b[8], int tokens, const char *act, int64_t act_row,
                                 __m256i total[ROW_TOKENS])
{
    quant_kind kind = kind_of(t);
    row_sums s[ROW_TOKENS][8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m256i q = unpack_32(t, b[i]);
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++)
            s[k][i] = sum_32(kind, q, (const act_q8 *)(act + k * act_row));
    }
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++) {
        const act_q8 *a = (const act_q8 *)(act + k * act_row);
        total[k] = _mm256_sub_epi32(hsum8(s[k]), _mm256_set1_epi32(panel_offset(kind) * a->sum));
    }
}

/* ---- many tokens ---- */

/* Tokens of a tile: 12 sums and 4 operands fill 16 registers; signed weights want more operands. */
enum { INT_TOKENS = 3, INT_TOKENS_SIGNED = 2 };

/* a panel's word for eight rows; v in [0, 2) */
ALWAYS_INLINE __m256i words(const uint32_t *panel_words, int word, int v)
{
    return _mm256_loadu_si256((const __m256i *)(panel_words + word * PANEL_ROWS + 8 * v));
}
ALWAYS_INLINE __m256 floats_at(const uint32_t *panel_words, int word, int v)
{
    return _mm256_castsi256_ps(words(panel_words, word, v));
}
ALWAYS_INLINE __m256i four_bytes(const void *p) /* in every lane */
{
    int32_t w;
    memcpy(&w, p, 4);
    return _mm256_set1_epi32(w);
}
ALWAYS_INLINE void clear(int tokens, __m256i sum[INT_TOKENS][2])
{
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++)
        sum[t][0] = sum[t][1] = _mm256_setzero_si256();
}

/* sum[t][v] += `count` groups of four weights (from p on) times activations (from a + t * act_row on), times the scale
 * pairs. At most `run` groups are added in 16 bits. */
ALWAYS_INLINE void scaled_products(bool is_signed, int run, int tokens, const uint32_t *p, int count, const int8_t *a,
                                   int64_t act_row, const __m256i scale[2], __m256i sum[INT_TOKENS][2])
{
#pragma GCC unroll 8
    for (int first = 0; first < count; first += run) {
        __m256i pairs[INT_TOKENS][2];
        clear(tokens, pairs);
#pragma GCC unroll 1 /* or the compiler takes the sums apart and runs out of registers */
        for (int k = first; k < first + run; k++) {
            __m256i w[2] = {words(p, k, 0), words(p, k, 1)};
#pragma GCC unroll 4
            for (int t = 0; t < tokens; t++) {
                __m256i x = four_bytes(a + t * act_row + 4 * k);
#pragma GCC unroll 2
                for (int v = 0; v < 2; v++)
                    pairs[t][v] = _mm256_add_epi16(pairs[t][v], byte_pairs(is_signed, w[v], x));
            }
        }
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++)
                sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(pairs[t][v], scale[v]));
    }
}

/* sum[t][v] += bias . sums of sub-blocks' activations */
ALWAYS_INLINE void bias_products(int sub, int tokens, const uint32_t *p, const act_q8k *a, int64_t act_row,
                                 __m256i sum[INT_TOKENS][2])
{
    int subs = 256 / sub;
    for (int j = 0; j < subs / 2; j++)
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++) {
            const act_q8k *at = (const act_q8k *)((const char *)a + t * act_row);
            __m256i x = four_bytes(sub == 16 ? at->sum16 + 2 * j : at->sum32 + 2 * j);
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++)
                sum[t][v] = _mm256_add_epi32(sum[t][v], _mm256_madd_epi16(words(p, 64 + subs + j, v), x));
        }
}

/* y += factor * (d of the row) * sum, where the sign is +1 or -1 */
ALWAYS_INLINE f32x16 add_scaled_sums(f32x16 total, const uint32_t *p, int word, float scale, float sign,
                                     const __m256i sum[2])
{
    __m256 s = _mm256_set1_ps(sign * scale);
    total.a = _mm256_fmadd_ps(_mm256_mul_ps(floats_at(p, word, 0), s), _mm256_cvtepi32_ps(sum[0]), total.a);
    total.b = _mm256_fmadd_ps(_mm256_mul_ps(floats_at(p, word, 1), s), _mm256_cvtepi32_ps(sum[1]), total.b);
    return total;
}

ALWAYS_INLINE void tile_256(quant_kind kind, int run, int tokens, const uint32_t *p, const act_q8k *a, int64_t act_row,
                            float *y, int64_t ldy, int64_t height, bool fresh)
{
    int subs = 256 / kind.sub, d_word = 64 + subs + subs / 2;
    __m256i sum[INT_TOKENS][2], mins[INT_TOKENS][2];
    clear(tokens, sum);
    if (kind.has_min) {
        clear(tokens, mins);
        bias_products(kind.sub, tokens, p, a, act_row, mins);
    } else if (kind.offset) {
        bias_products(kind.sub, tokens, p, a, act_row, sum);
    }
    for (int j = 0; j < subs; j++) {
        __m256i scale[2] = {words(p, 64 + j, 0), words(p, 64 + j, 1)};
        scaled_products(kind.is_signed, run, tokens, p + j * (kind.sub / 4) * PANEL_ROWS, kind.sub / 4,
                        a->q + j * kind.sub, act_row, scale, sum);
    }
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++) {
        float *out = y + t * ldy, d = ((const act_q8k *)((const char *)a + t * act_row))->d;
        f32x16 total = add_scaled_sums(sum_load(out, height, fresh), p, d_word, d, 1, sum[t]);
        if (kind.has_min)
            total = add_scaled_sums(total, p, d_word + 1, d, -1, mins[t]);
        sum_store(out, total, height);
    }
}

ALWAYS_INLINE void tile_32(quant_kind kind, int run, int tokens, const uint32_t *p, int blocks, const act_q8 *a,
                           int64_t act_row, float *y, int64_t ldy, int64_t height, bool fresh)
{
    const __m256i ones[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
    f32x16 total[INT_TOKENS];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++)
        total[t] = sum_load(y + t * ldy, height, fresh);
    for (int b = 0; b < blocks; b++, a++) {
        __m256i sum[INT_TOKENS][2];
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++) {
            const act_q8 *at = (const act_q8 *)((const char *)a + t * act_row);
            sum[t][0] = sum[t][1] = _mm256_set1_epi32(-kind.offset * at->sum);
        }
        scaled_products(kind.is_signed, run, tokens, p + 8 * b * PANEL_ROWS, 8, a->q, act_row, ones, sum);
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++) {
            const act_q8 *at = (const act_q8 *)((const char *)a + t * act_row);
            total[t] = add_scaled_sums(total[t], p, 64 + b, at->d, 1, sum[t]);
            if (kind.has_min) {
                const __m256i each[2] = {_mm256_set1_epi32(at->sum), _mm256_set1_epi32(at->sum)};
                total[t] = add_scaled_sums(total[t], p, 72 + b, at->d, 1, each);
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++)
        sum_store(y + t * ldy, total[t], height);
}

/* Groups of four products that fit 16 bits: 2 * 127 * largest * run < 2^15, and run divides the sub-block's groups. */
ALWAYS_INLINE int run_of(quant_kind kind)
{
    int most = kind.largest <= 15 ? 8 : kind.largest <= 31 ? 4 : kind.largest <= 63 ? 2 : 1;
    return most < kind.sub / 4 ? most : kind.sub / 4;
}

ALWAYS_INLINE void tiles_256(quant_kind kind, const uint32_t *p, const char *act, int64_t act_row, int64_t n, float *y,
                             int64_t ldy, int64_t height, bool fresh)
{
    const int most = kind.is_signed ? INT_TOKENS_SIGNED : INT_TOKENS;
    int64_t t = 0;
    for (; t + most <= n; t += most)
        tile_256(kind, run_of(kind), most, p, (const act_q8k *)(act + t * act_row), act_row, y + t * ldy, ldy, height,
                 fresh);
    for (; t < n; t++)
        tile_256(kind, run_of(kind), 1, p, (const act_q8k *)(act + t * act_row), act_row, y + t * ldy, ldy, height,
                 fresh);
}

ALWAYS_INLINE void tiles_32(quant_kind kind, const uint32_t *p, int blocks, const char *act, int64_t act_row, int64_t n,
                            float *y, int64_t ldy, int64_t height, bool fresh)
{
    const int most = kind.is_signed ? INT_TOKENS_SIGNED : INT_TOKENS;
    int64_t t = 0;
    for (; t + most <= n; t += most)
        tile_32(kind, run_of(kind), most, p, blocks, (const act_q8 *)(act + t * act_row), act_row, y + t * ldy, ldy,
                height, fresh);
    for (; t < n; t++)
        tile_32(kind, run_of(kind), 1, p, blocks, (const act_q8 *)(act + t * act_row), act_row, y + t * ldy, ldy,
                height, fresh);
}

#endif
