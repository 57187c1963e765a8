/* dot_i8_avx512.h - exact integer sums with VNNI: dpbusd multiplies unsigned weights with signed activations and adds
 * four products to each 32-bit lane without saturation. See gemm_quant.h. */
#ifndef ODMOE_KERNELS_X86_DOT_I8_AVX512_H
#define ODMOE_KERNELS_X86_DOT_I8_AVX512_H

#include "kernels/act.h"
#include "kernels/simd/gemm_float.h"
#include "kernels/x86/unpack.h"

enum { INT_TOKENS = 6 }; /* 2 x 12 of 32 registers hold sums */

/* Signed bytes are made unsigned by adding 128. */
ALWAYS_INLINE __m256i panel_bytes(quant_kind kind, __m256i q)
{
    return kind.is_signed ? _mm256_xor_si256(q, _mm256_set1_epi8((char)0x80)) : q;
}
ALWAYS_INLINE int panel_offset(quant_kind kind)
{
    return kind.is_signed ? 128 : kind.offset;
}
/* a 32-bit number each */
ALWAYS_INLINE void panel_scales(quant_kind kind, __m256i scale, uint32_t *out)
{
    if (kind.sub == 16)
        _mm512_storeu_si512(out, _mm512_cvtepi16_epi32(scale));
    else
        _mm256_storeu_si256((__m256i *)out, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(scale)));
}

/* ---- few tokens ---- */

enum { ROW_TOKENS = 1 }; /* that rows are multiplied with at a time */
enum { ROW_UNROLL = 8 }; /* rows side by side in the code */

/* The smallest number of tokens for which packing a panel is faster. */
ALWAYS_INLINE int panel_tokens(dtype t)
{
    return 3;
}

typedef __m256i row_sums; /* lanes that add up to a row's sum over a block */

ALWAYS_INLINE row_sums row_sums_zero(void)
{
    return _mm256_setzero_si256();
}
/* out[i] = sum of the lanes of v[i] */
ALWAYS_INLINE __m256i hsum8(const row_sums v[8])
{
    __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

/* Do four products of a kind's bytes with activations, added, fit 16 bits? */
ALWAYS_INLINE bool fits_16(quant_kind kind)
{
    return !kind.is_signed && 4 * 127 * kind.largest <= INT16_MAX;
}

/* Lanes that add up to the sum of scale * byte * activation over the block, for kinds that fit 16 bits: sums are packed and
 * multiplied with their scales in pairs. */
ALWAYS_INLINE __m256i packed_sums(quant_kind kind, const unpacked *u, const act_q8k *a)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m256i x = _mm256_dpbusd_epi32(_mm256_setzero_si256(), u->q[2 * j], load32((const uint8_t *)a->q + 64 * j));
        __m256i y =
            _mm256_dpbusd_epi32(_mm256_setzero_si256(), u->q[2 * j + 1], load32((const uint8_t *)a->q + 64 * j + 32));
        short p = (short)(kind.sub == 16 ? 4 * j : 2 * j), q = (short)(kind.sub == 16 ? p + 2 : p + 1);
        short r = (short)(kind.sub == 16 ? p + 1 : p), s = (short)(kind.sub == 16 ? p + 3 : p + 1);
        __m256i lanes = _mm256_setr_epi16(p, p, p, p, q, q, q, q, r, r, r, r, s, s, s, s);
        sum = _mm256_dpwssd_epi32(sum, _mm256_packs_epi32(x, y), _mm256_permutexvar_epi16(lanes, u->scale));
    }
    return sum;
}

/* The same for other kinds. */
ALWAYS_INLINE __m256i wide_sums(quant_kind kind, const unpacked *u, const act_q8k *a)
{
    __m512i sum = _mm512_setzero_si512(), lanes = _mm512_setzero_si512(), each;
    __m512i scale = kind.sub == 16 ? _mm512_cvtepi16_epi32(u->scale)
                                   : _mm512_zextsi256_si512(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(u->scale)));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) { /* 64 weights: 16 lanes of four */
        __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512(panel_bytes(kind, u->q[2 * j])),
                                       panel_bytes(kind, u->q[2 * j + 1]), 1);
        each = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q, _mm512_loadu_si512(a->q + 64 * j));
        lanes =
            kind.sub == 16
                ? _mm512_setr_epi32(4 * j, 4 * j, 4 * j, 4 * j, 4 * j + 1, 4 * j + 1, 4 * j + 1, 4 * j + 1, 4 * j + 2,
                                    4 * j + 2, 4 * j + 2, 4 * j + 2, 4 * j + 3, 4 * j + 3, 4 * j + 3, 4 * j + 3)
                : _mm512_setr_epi32(2 * j, 2 * j, 2 * j, 2 * j, 2 * j, 2 * j, 2 * j, 2 * j, 2 * j + 1, 2 * j + 1,
                                    2 * j + 1, 2 * j + 1, 2 * j + 1, 2 * j + 1, 2 * j + 1, 2 * j + 1);
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(each, _mm512_permutexvar_epi32(lanes, scale)));
    }
    return _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}

/* Lanes that add up to the sum of scale * weight * activation over the block. */
ALWAYS_INLINE row_sums sums_256(quant_kind kind, const unpacked *u, const act_q8k *a)
{
    __m256i sum = fits_16(kind) ? packed_sums(kind, u, a) : wide_sums(kind, u, a);
    if (!panel_offset(kind))
        return sum;
    __m256i sums = times_sums(kind, u->scale, a);
    return _mm256_sub_epi32(sum, _mm256_slli_epi32(sums, __builtin_ctz((unsigned)panel_offset(kind))));
}

/* Row i's sums over a block, for each token. */
ALWAYS_INLINE void row_sums_256(dtype t, const uint8_t *block, int tokens, const char *act, int64_t act_row, int i,
                                row_sums sum[ROW_TOKENS][8], row_sums min[ROW_TOKENS][8])
{
    quant_kind kind = kind_of(t);
    unpacked u;
    unpack_256(t, block, &u);
    for (int k = 0; k < tokens; k++) {
        const act_q8k *a = (const act_q8k *)(act + k * act_row);
        sum[k][i] = sums_256(kind, &u, a);
        if (kind.has_min)
            min[k][i] = times_sums(kind, u.min, a);
    }
}

/* The types of blocks of 32 but Q8_0 hold a nibble of each weight, low ones first: 16 bytes. Of eight rows they are brought
 * side by side, word k of all rows in w[k], so that a lane is a row, and sums need not be folded. */
ALWAYS_INLINE void nibble_words(const uint8_t *const b[8], int at, __m256i w[4])
{
    __m256i v[4]; /* rows i and i + 4 */
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(b[i] + at)), load16(b[i + 4] + at), 1);
    __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]), high01 = _mm256_unpackhi_epi32(v[0], v[1]);
    __m256i low23 = _mm256_unpacklo_epi32(v[2], v[3]), high23 = _mm256_unpackhi_epi32(v[2], v[3]);
    w[0] = _mm256_unpacklo_epi64(low01, low23);
    w[1] = _mm256_unpackhi_epi64(low01, low23);
    w[2] = _mm256_unpacklo_epi64(high01, high23);
    w[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* Where the nibbles begin in a block. */
ALWAYS_INLINE int nibbles_at(dtype t)
{
    return (int)block_size[t].bytes - 16;
}

/* Nibbles to panel_bytes, but for the fifth bit. */
ALWAYS_INLINE __m256i nibble_bytes(dtype t, __m256i nibble)
{
    __m128i values;
    switch (t) {
    case DTYPE_IQ4_NL:
        values = _mm_xor_si128(load16((const uint8_t *)kernel_iq4_values), _mm_set1_epi8((char)0x80));
        break;
    case DTYPE_MXFP4:
        values = _mm_add_epi8(load16((const uint8_t *)kernel_mxfp4_values), _mm_set1_epi8(12));
        break;
    default:
        return nibble;
    }
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibble);
}

/* q plus 16 in the bytes of weights [4 k, 4 k + 4) whose bit is set; bits: a row's 32 in each lane. */
ALWAYS_INLINE __m256i add_fifth(__m256i q, __m256i bits, int k)
{
    const __m256i four = _mm256_setr_epi32(0x00000000, 0x04040404, 0x08080808, 0x0c0c0c0c, 0x00000000, 0x04040404,
                                           0x08080808, 0x0c0c0c0c);
    __m256i spread = _mm256_shuffle_epi8(bits, _mm256_add_epi8(four, _mm256_set1_epi8((char)(k / 2))));
    __m256i bit = _mm256_set1_epi32(k % 2 ? (int)0x80402010 : 0x08040201);
    return _mm256_mask_add_epi8(q, _mm256_test_epi8_mask(spread, bit), q, _mm256_set1_epi8(16));
}

ALWAYS_INLINE __m256i eight_words(const uint8_t *const b[8], int at)
{
    return _mm256_setr_epi32((int)block_u32(b[0] + at), (int)block_u32(b[1] + at), (int)block_u32(b[2] + at),
                             (int)block_u32(b[3] + at), (int)block_u32(b[4] + at), (int)block_u32(b[5] + at),
                             (int)block_u32(b[6] + at), (int)block_u32(b[7] + at));
}

ALWAYS_INLINE __m256i four_activations(const act_q8 *a, int k)
{
    int32_t w;
    memcpy(&w, a->q + 4 * k, 4);
    return _mm256_set1_epi32(w);
}

/* total[i] = sum of weight * activation over row i's block of 32. */
ALWAYS_INLINE __m256i eight_nibble_sums(dtype t, const uint8_t *const b[8], const act_q8 *a)
{
    quant_kind kind = kind_of(t);
    bool fifth = t == DTYPE_Q5_0 || t == DTYPE_Q5_1;
    __m256i w[4], bits = fifth ? eight_words(b, nibbles_at(t) - 4) : _mm256_setzero_si256();
    __m256i sum = _mm256_set1_epi32(-panel_offset(kind) * a->sum), more = _mm256_setzero_si256();
    nibble_words(b, nibbles_at(t), w);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m256i low = nibble_bytes(t, _mm256_and_si256(w[k], _mm256_set1_epi8(15)));
        __m256i high = nibble_bytes(t, _mm256_and_si256(_mm256_srli_epi16(w[k], 4), _mm256_set1_epi8(15)));
        if (fifth) {
            low = add_fifth(low, bits, k);
            high = add_fifth(high, bits, k + 4);
        }
        sum = _mm256_dpbusd_epi32(sum, low, four_activations(a, k));
        more = _mm256_dpbusd_epi32(more, high, four_activations(a, k + 4));
    }
    return _mm256_add_epi32(sum, more);
}

/* total[k][i] = sum of weight * activation over row i's block of 32, for each token k. */
ALWAYS_INLINE void eight_sums_32(dtype t, const uint8_t *const b[8], int tokens, const char *act, int64_t act_row,
                                 __m256i total[ROW_TOKENS])
{
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++) {
        const act_q8 *a = (const act_q8 *)(act + k * act_row);
        row_sums s[8];
        if (t != DTYPE_Q8_0) {
            total[k] = eight_nibble_sums(t, b, a);
            continue;
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            s[i] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), panel_bytes(kind_of(t), load32(b[i] + 2)),
                                       _mm256_loadu_si256((const __m256i *)a->q));
        total[k] = _mm256_sub_epi32(hsum8(s), _mm256_set1_epi32(128 * a->sum));
    }
}

/* ---- many tokens ---- */

ALWAYS_INLINE __m512i words(const uint32_t *panel_words, int word, int v)
{
    return _mm512_loadu_si512(panel_words + word * PANEL_ROWS + 16 * v);
}
ALWAYS_INLINE __m512 floats_at(const uint32_t *panel_words, int word, int v)
{
    return _mm512_castsi512_ps(words(panel_words, word, v));
}
ALWAYS_INLINE __m512i four_bytes(const void *p) /* in every lane */
{
    int32_t w;
    memcpy(&w, p, 4);
    return _mm512_set1_epi32(w);
}

/* each[t][v] = sum over `count` groups of four weights, from word `word` on, for `tokens` x `vectors` outputs;
 * activations at a + t * act_row. */
ALWAYS_INLINE void byte_products(int tokens, int vectors, const uint32_t *p, int word, int count, const int8_t *a,
                                 int64_t act_row, __m512i each[INT_TOKENS][TILE_VECTORS])
{
#pragma GCC unroll 8
    for (int k = 0; k < count; k++) {
        __m512i w[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            w[v] = words(p, word + k, v);
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            __m512i x = four_bytes(a + t * act_row + 4 * k);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                each[t][v] = _mm512_dpbusd_epi32(each[t][v], w[v], x);
        }
    }
}

/* sum[t][v] += bias . sums of sub-blocks' activations */
ALWAYS_INLINE void bias_products(int sub, int tokens, int vectors, const uint32_t *p, const act_q8k *a, int64_t act_row,
                                 __m512i sum[INT_TOKENS][TILE_VECTORS])
{
    int subs = 256 / sub;
#pragma GCC unroll 8
    for (int j = 0; j < subs / 2; j++)
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            const act_q8k *at = (const act_q8k *)((const char *)a + t * act_row);
            __m512i x = four_bytes(sub == 16 ? at->sum16 + 2 * j : at->sum32 + 2 * j);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[t][v] = _mm512_dpwssd_epi32(sum[t][v], words(p, 64 + subs + j, v), x);
        }
}

ALWAYS_INLINE void clear(int tokens, int vectors, __m512i sum[INT_TOKENS][TILE_VECTORS])
{
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[t][v] = _mm512_setzero_si512();
}

ALWAYS_INLINE void tile_256(int sub, bool has_min, int tokens, int vectors, const uint32_t *p, const act_q8k *a,
                            int64_t act_row, float *y, int64_t ldy, int64_t height, bool fresh)
{
    int subs = 256 / sub, d_word = 64 + subs + subs / 2;
    __m512i sum[INT_TOKENS][TILE_VECTORS], each[INT_TOKENS][TILE_VECTORS];
    clear(tokens, vectors, sum);
    if (!has_min)
        bias_products(sub, tokens, vectors, p, a, act_row, sum);
    for (int j = 0; j < subs; j++) {
        clear(tokens, vectors, each);
        byte_products(tokens, vectors, p + j * (sub / 4) * PANEL_ROWS, 0, sub / 4, a->q + j * sub, act_row, each);
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[t][v] = _mm512_add_epi32(sum[t][v], _mm512_mullo_epi32(each[t][v], words(p, 64 + j, v)));
    }
    if (has_min) {
        clear(tokens, vectors, each);
        bias_products(sub, tokens, vectors, p, a, act_row, each);
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) {
        const act_q8k *at = (const act_q8k *)((const char *)a + t * act_row);
        __m512 scale = _mm512_set1_ps(at->d);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            float *out = y + t * ldy + 16 * v;
            __m512 total = sum_load(out, height - 16 * v, fresh);
            __m512 d = _mm512_mul_ps(floats_at(p, d_word, v), scale);
            total = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(sum[t][v]), total);
            if (has_min) {
                d = _mm512_mul_ps(floats_at(p, d_word + 1, v), scale);
                total = _mm512_fnmadd_ps(d, _mm512_cvtepi32_ps(each[t][v]), total);
            }
            sum_store(out, total, height - 16 * v);
        }
    }
}

ALWAYS_INLINE void tile_32(int offset, bool has_min, int tokens, int vectors, const uint32_t *p, int blocks,
                           const act_q8 *a, int64_t act_row, float *y, int64_t ldy, int64_t height, bool fresh)
{
    __m512 total[INT_TOKENS][TILE_VECTORS];
    __m512i each[INT_TOKENS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            total[t][v] = sum_load(y + t * ldy + 16 * v, height - 16 * v, fresh);
    for (int b = 0; b < blocks; b++, a++) {
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            const act_q8 *at = (const act_q8 *)((const char *)a + t * act_row);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                each[t][v] = _mm512_set1_epi32(-offset * at->sum);
        }
        byte_products(tokens, vectors, p + 8 * b * PANEL_ROWS, 0, 8, a->q, act_row, each);
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            const act_q8 *at = (const act_q8 *)((const char *)a + t * act_row);
            __m512 scale = _mm512_set1_ps(at->d);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                __m512 d = _mm512_mul_ps(floats_at(p, 64 + b, v), scale);
                total[t][v] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(each[t][v]), total[t][v]);
                if (has_min) {
                    d = _mm512_mul_ps(floats_at(p, 72 + b, v), scale);
                    total[t][v] = _mm512_fmadd_ps(d, _mm512_set1_ps((float)at->sum), total[t][v]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum_store(y + t * ldy + 16 * v, total[t][v], height - 16 * v);
}

/* All tokens, in tiles of a constant size. */
ALWAYS_INLINE void tiles_256_of(int sub, bool has_min, int vectors, const uint32_t *p, const char *act, int64_t act_row,
                                int64_t n, float *y, int64_t ldy, int64_t height, bool fresh)
{
    for (int64_t t = 0; t < n;) {
        const act_q8k *a = (const act_q8k *)(act + t * act_row);
        float *out = y + t * ldy;
        if (n - t >= INT_TOKENS) {
            tile_256(sub, has_min, INT_TOKENS, vectors, p, a, act_row, out, ldy, height, fresh);
            t += INT_TOKENS;
        } else if (n - t >= 3) {
            tile_256(sub, has_min, 3, vectors, p, a, act_row, out, ldy, height, fresh);
            t += 3;
        } else {
            tile_256(sub, has_min, 1, vectors, p, a, act_row, out, ldy, height, fresh);
            t++;
        }
    }
}

static void tiles_256_sub16(bool has_min, const uint32_t *p, const char *act, int64_t act_row, int64_t n, float *y,
                            int64_t ldy, int64_t height, bool fresh)
{
    if (height > 16)
        tiles_256_of(16, has_min, 2, p, act, act_row, n, y, ldy, height, fresh);
    else
        tiles_256_of(16, has_min, 1, p, act, act_row, n, y, ldy, height, fresh);
}

static void tiles_256_sub32(bool has_min, const uint32_t *p, const char *act, int64_t act_row, int64_t n, float *y,
                            int64_t ldy, int64_t height, bool fresh)
{
    if (height > 16)
        tiles_256_of(32, has_min, 2, p, act, act_row, n, y, ldy, height, fresh);
    else
        tiles_256_of(32, has_min, 1, p, act, act_row, n, y, ldy, height, fresh);
}

ALWAYS_INLINE void tiles_256(quant_kind kind, const uint32_t *p, const char *act, int64_t act_row, int64_t n, float *y,
                             int64_t ldy, int64_t height, bool fresh)
{
    if (kind.sub == 16)
        tiles_256_sub16(kind.has_min, p, act, act_row, n, y, ldy, height, fresh);
    else
        tiles_256_sub32(kind.has_min, p, act, act_row, n, y, ldy, height, fresh);
}

ALWAYS_INLINE void tiles_32_of(int offset, bool has_min, int vectors, const uint32_t *p, int blocks, const char *act,
                               int64_t act_row, int64_t n, float *y, int64_t ldy, int64_t height, bool fresh)
{
    for (int64_t t = 0; t < n;) {
        const act_q8 *a = (const act_q8 *)(act + t * act_row);
        float *out = y + t * ldy;
        if (n - t >= INT_TOKENS) {
            tile_32(offset, has_min, INT_TOKENS, vectors, p, blocks, a, act_row, out, ldy, height, fresh);
            t += INT_TOKENS;
        } else if (n - t >= 3) {
            tile_32(offset, has_min, 3, vectors, p, blocks, a, act_row, out, ldy, height, fresh);
            t += 3;
        } else {
            tile_32(offset, has_min, 1, vectors, p, blocks, a, act_row, out, ldy, height, fresh);
            t++;
        }
    }
}

static void tiles_32_any(int offset, bool has_min, const uint32_t *p, int blocks, const char *act, int64_t act_row,
                         int64_t n, float *y, int64_t ldy, int64_t height, bool fresh)
{
    if (height > 16)
        tiles_32_of(offset, has_min, 2, p, blocks, act, act_row, n, y, ldy, height, fresh);
    else
        tiles_32_of(offset, has_min, 1, p, blocks, act, act_row, n, y, ldy, height, fresh);
}

ALWAYS_INLINE void tiles_32(quant_kind kind, const uint32_t *p, int blocks, const char *act, int64_t act_row, int64_t n,
                            float *y, int64_t ldy, int64_t height, bool fresh)
{
    tiles_32_any(panel_offset(kind), kind.has_min, p, blocks, act, act_row, n, y, ldy, height, fresh);
}

#endif
