/* gemm_quant.h - products of quantised weights with 8-bit activations, for AVX2 and AVX-512 alike.
 *
 * The result for one row and one token is a chain over the row's blocks, ascending:
 *
 *   y = fma(d * a.d, S, y)          S = sum of scale * q * a over the block, an exact integer
 *   y = fma(-m * a.d, M, y)         M = sum of min * a; types with a minimum only
 *
 * so every way to the integers gives the same bits. There are two ways. Few tokens: eight weight rows side by side,
 * each block unpacked in registers straight from memory (`rows_*`), which keeps up with the memory bus. Many tokens: a
 * panel of PANEL_ROWS rows and 256 columns is unpacked once, interleaved, and serves all tokens from the first cache.
 *
 * A panel is made of packed rows, one a row: 32-bit words, 64 of four weights each, then what scales them. Transposed, the
 * word w of all rows lies side by side at panel[w * PANEL_ROWS]:
 *
 *   blocks of 256   0 weights | 64 scales | 64 + subs pairs of biases | d | m      (subs = 256 / quant_kind.sub)
 *   blocks of 32    0 weights | 64 eight d | 72 eight m
 *
 * A bias multiplies the sum of a sub-block's activations: the minimum, or what the weights' offset makes of the scale.
 *
 * The arithmetic that differs between the two instruction sets is in dot_i8_avx2.h and dot_i8_avx512.h, included first:
 * ROW_TOKENS, ROW_UNROLL, row_sums, row_sums_256, hsum8, eight_sums_32 (few tokens), panel_tokens (from how many on),
 * panel_bytes, panel_scales, panel_offset (how packed rows are written), tiles_256, tiles_32 (many tokens). */
#ifndef ODMOE_KERNELS_X86_GEMM_QUANT_H
#define ODMOE_KERNELS_X86_GEMM_QUANT_H

/* ---- few tokens ---- */

enum { FIRST_CACHE = 32768 }; /* bytes, of most processors */

/* Prefetch the next rows while these are multiplied block by block, in the order of addresses: one sequential stream for
 * the memory controller. Each cache line from byte `from` behind `next` on, once: into the first cache, or, when that would
 * not hold these rows and the next ones together, into the second. As instructions that compilers leave in their place,
 * between the rows' products: all of a block's together fill the line buffers, and what is needed next waits for them. */
ALWAYS_INLINE bool rows_are_long(int rows, int64_t row_bytes)
{
    return rows * row_bytes > FIRST_CACHE / 2;
}
ALWAYS_INLINE void prefetch_rows(bool are_long, const uint8_t *next, int64_t from, int64_t bytes)
{
    if (are_long)
        for (int64_t line = (from + 63) / 64 * 64; line < from + bytes; line += 64)
            __asm__ volatile("prefetcht1 %0" : : "m"(next[line]));
    else
        for (int64_t line = (from + 63) / 64 * 64; line < from + bytes; line += 64)
            __asm__ volatile("prefetcht0 %0" : : "m"(next[line]));
}

/* out[k][i] = row i times token k, for `rows` = 8 rows or 1 and `tokens` <= ROW_TOKENS, constants. A block is unpacked
 * once for all tokens. */
ALWAYS_INLINE void rows_256(dtype t, int rows, int tokens, const uint8_t *weights, int64_t row_bytes, int64_t cols,
                            const char *act, int64_t act_row, float out[ROW_TOKENS][8])
{
    quant_kind kind = kind_of(t);
    int64_t block_bytes = block_size[t].bytes;
    const uint8_t *next = weights + rows * row_bytes;
    const bool are_long = rows_are_long(rows, row_bytes);
    __m256 sum[ROW_TOKENS];
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        sum[k] = _mm256_setzero_ps();
    for (int64_t c = 0; c < cols;
         c += 256, act += sizeof(act_q8k), weights += block_bytes, next += rows * block_bytes) {
        const uint8_t *b[8];
        row_sums s[ROW_TOKENS][8], m[ROW_TOKENS][8];
#pragma GCC unroll ROW_UNROLL
        for (int i = 0; i < 8; i++) {
            b[i] = weights + (i < rows ? i : 0) * row_bytes;
#pragma GCC unroll 4
            for (int k = 0; k < tokens; k++)
                s[k][i] = m[k][i] = row_sums_zero();
            if (i >= rows)
                continue;
            prefetch_rows(are_long, next, i * block_bytes, block_bytes);
            row_sums_256(t, b[i], tokens, act, act_row, i, s, m);
        }
        __m256 d = eight_scales_256(t, b), mins = kind.has_min ? eight_halves(b, m_at(t)) : d;
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++) {
            __m256 scale = _mm256_set1_ps(((const act_q8k *)(act + k * act_row))->d);
            sum[k] = _mm256_fmadd_ps(_mm256_mul_ps(d, scale), _mm256_cvtepi32_ps(hsum8(s[k])), sum[k]);
            if (kind.has_min)
                sum[k] = _mm256_fnmadd_ps(_mm256_mul_ps(mins, scale), _mm256_cvtepi32_ps(hsum8(m[k])), sum[k]);
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        _mm256_storeu_ps(out[k], sum[k]);
}

/* The same for blocks of 32. */
ALWAYS_INLINE void rows_32(dtype t, int rows, int tokens, const uint8_t *weights, int64_t row_bytes, int64_t cols,
                           const char *act, int64_t act_row, float out[ROW_TOKENS][8])
{
    quant_kind kind = kind_of(t);
    int64_t block_bytes = block_size[t].bytes;
    const uint8_t *next = weights + rows * row_bytes;
    const bool are_long = rows_are_long(rows, row_bytes);
    __m256 sum[ROW_TOKENS];
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        sum[k] = _mm256_setzero_ps();
    for (int64_t c = 0; c < cols; c += 32, act += sizeof(act_q8), weights += block_bytes, next += rows * block_bytes) {
        const uint8_t *b[8];
        __m256i total[ROW_TOKENS];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = weights + (i < rows ? i : 0) * row_bytes;
        prefetch_rows(are_long, next, 0, rows * block_bytes);
        eight_sums_32(t, b, tokens, act, act_row, total);
        __m256 d = eight_scales_32(t, b), added = kind.has_min ? eight_added_32(b) : d;
#pragma GCC unroll 4
        for (int k = 0; k < tokens; k++) {
            const act_q8 *a = (const act_q8 *)(act + k * act_row);
            __m256 scale = _mm256_set1_ps(a->d);
            sum[k] = _mm256_fmadd_ps(_mm256_mul_ps(d, scale), _mm256_cvtepi32_ps(total[k]), sum[k]);
            if (kind.has_min)
                sum[k] = _mm256_fmadd_ps(_mm256_mul_ps(added, scale), _mm256_set1_ps((float)a->sum), sum[k]);
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        _mm256_storeu_ps(out[k], sum[k]);
}

/* y[k * ldy + i] for `rows` = 8 rows or 1 and `tokens` tokens, constants */
ALWAYS_INLINE void rows_any(dtype t, int rows, int tokens, const uint8_t *weights, int64_t row_bytes, int64_t cols,
                            const char *act, int64_t act_row, float *y, int64_t ldy)
{
    float out[ROW_TOKENS][8];
    if (block_size[t].length == 32)
        rows_32(t, rows, tokens, weights, row_bytes, cols, act, act_row, out);
    else
        rows_256(t, rows, tokens, weights, row_bytes, cols, act, act_row, out);
#pragma GCC unroll 4
    for (int k = 0; k < tokens; k++)
        memcpy(y + k * ldy, out[k], (size_t)rows * sizeof(float));
}

/* ---- weights as floats ---- */

/* out[i] = scale * q[i] - min, sixteen of them; byte = q + offset */
ALWAYS_INLINE void sixteen_floats(__m128i bytes, int offset, float scale, float min, float *out)
{
    __m128i q = _mm_sub_epi8(bytes, _mm_set1_epi8((char)offset));
#pragma GCC unroll 2
    for (int i = 0; i < 16; i += 8, q = _mm_unpackhi_epi64(q, q)) {
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), _mm256_set1_ps(scale));
        _mm256_storeu_ps(out + i, _mm256_sub_ps(v, _mm256_set1_ps(min)));
    }
}
ALWAYS_INLINE void thirty_two_floats(__m256i bytes, int offset, const float scale[2], const float min[2], float *out)
{
    sixteen_floats(_mm256_castsi256_si128(bytes), offset, scale[0], min[0], out);
    sixteen_floats(_mm256_extracti128_si256(bytes, 1), offset, scale[1], min[1], out + 16);
}

ALWAYS_INLINE void floats_256(dtype t, const uint8_t *block, float *out)
{
    quant_kind kind = kind_of(t);
    unpacked u;
    int16_t scale[16], min[16] = {0};
    float d = block_d(t, block), m = kind.has_min ? _cvtsh_ss(block_u16(block + m_at(t))) : 0;
    unpack_256(t, block, &u);
    _mm256_storeu_si256((__m256i *)scale, u.scale);
    if (kind.has_min)
        _mm256_storeu_si256((__m256i *)min, u.min);
    for (int j = 0; j < 8; j++) {
        int first = kind.sub == 16 ? 2 * j : j, second = kind.sub == 16 ? first + 1 : first;
        float scales[2] = {d * scale[first], d * scale[second]}, mins[2] = {m * min[first], m * min[second]};
        thirty_two_floats(u.q[j], kind.offset, scales, mins, out + 32 * j);
    }
}

ALWAYS_INLINE void floats_32(dtype t, const uint8_t *block, float *out)
{
    float d = t == DTYPE_MXFP4 ? block_e8m0_half(block[0]) : _cvtsh_ss(block_u16(block));
    float m = kind_of(t).has_min ? -_cvtsh_ss(block_u16(block + 2)) : 0, scales[2] = {d, d}, mins[2] = {m, m};
    thirty_two_floats(unpack_32(t, block), kind_of(t).offset, scales, mins, out);
}

/* The same numbers as `plain`, the type's function of the table `ref`. */
ALWAYS_INLINE void quant_dequantise(dtype t, dequantise_function *plain, const uint8_t *weights, float *out, int64_t n)
{
    for (; n > 0; n -= block_size[t].length, weights += block_size[t].bytes, out += block_size[t].length)
        if (block_size[t].length == 32)
            floats_32(t, weights, out);
        else
            floats_256(t, weights, out);
}

/* ---- many tokens ---- */

enum { PACKED_ROW = 96, PACKED_ROW_D32 = 64, PACKED_ROW_M32 = 72, PACKED_ROW_SCALES = 64 }; /* words; see above */

ALWAYS_INLINE void store_float(uint32_t *word, float f)
{
    memcpy(word, &f, 4);
}

ALWAYS_INLINE void pack_row_256(dtype t, const uint8_t *block, uint32_t *packed_row)
{
    quant_kind kind = kind_of(t);
    int subs = 256 / kind.sub;
    unpacked u;
    unpack_256(t, block, &u);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        _mm256_storeu_si256((__m256i *)packed_row + j, panel_bytes(kind, u.q[j]));
    panel_scales(kind, u.scale, packed_row + PACKED_ROW_SCALES);
    __m256i bias = kind.has_min ? u.min : _mm256_mullo_epi16(u.scale, _mm256_set1_epi16((short)-panel_offset(kind)));
    uint32_t *after = packed_row + PACKED_ROW_SCALES + subs;
    if (kind.sub == 16)
        _mm256_storeu_si256((__m256i *)after, bias);
    else
        _mm_storeu_si128((__m128i *)after, _mm256_castsi256_si128(bias));
    store_float(after + subs / 2, block_d(t, block));
    if (kind.has_min)
        store_float(after + subs / 2 + 1, _cvtsh_ss(block_u16(block + m_at(t))));
}

/* `blocks` <= 8 blocks of 32 */
ALWAYS_INLINE void pack_row_32(dtype t, const uint8_t *block, int blocks, uint32_t *packed_row)
{
    quant_kind kind = kind_of(t);
    for (int j = 0; j < blocks; j++, block += block_size[t].bytes) {
        _mm256_storeu_si256((__m256i *)packed_row + j, panel_bytes(kind, unpack_32(t, block)));
        store_float(packed_row + PACKED_ROW_D32 + j,
                    t == DTYPE_MXFP4 ? block_e8m0_half(block[0]) : _cvtsh_ss(block_u16(block)));
        if (kind.has_min)
            store_float(packed_row + PACKED_ROW_M32 + j, _cvtsh_ss(block_u16(block + 2)));
    }
}

/* The words of `height` rows at column c side by side; rows beyond height are 0. `width` columns, 256 or, at the end of
 * a row of blocks of 32, fewer. */
ALWAYS_INLINE void fill_panel(dtype t, const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c, int width,
                              uint32_t *out)
{
    quant_kind kind = kind_of(t);
    bool small = block_size[t].length == 32;
    int words = small || kind.sub == 32 ? 80 : PACKED_ROW;
    uint32_t packed_row[16][PACKED_ROW];
    for (int64_t first = 0; first < PANEL_ROWS && first < height; first += 16) {
        if (first + 16 > height || width < 256)
            memset(packed_row, 0, sizeof packed_row);
        for (int64_t i = 0; i < 16 && first + i < height; i++) {
            const uint8_t *block = weights + (first + i) * row_bytes + c / block_size[t].length * block_size[t].bytes;
            if (small)
                pack_row_32(t, block, width / 32, packed_row[i]);
            else
                pack_row_256(t, block, packed_row[i]);
        }
        for (int w = 0; w < words; w += 16)
            f32x16_interleave(DTYPE_F32, (const uint8_t *)(packed_row[0] + w), sizeof packed_row[0],
                              (float *)(out + w * PANEL_ROWS + first), PANEL_ROWS);
    }
}

/* fill_panel for one type, a function of its own: its packed rows and the panel would be too much for one frame. */
typedef void fill_panel_of_type(const uint8_t *weights, int64_t row_bytes, int64_t height, int64_t c, int width,
                                uint32_t *out);

ALWAYS_INLINE void panels(dtype t, fill_panel_of_type *fill, const uint8_t *weights, int64_t row_bytes, int64_t rows,
                          int64_t cols, const char *act, int64_t act_row, int64_t n, float *y, int64_t ldy)
{
    uint32_t panel_words[PACKED_ROW * PANEL_ROWS];
    quant_kind kind = kind_of(t);
    for (int64_t r = 0; r < rows; r += PANEL_ROWS) {
        int64_t height = rows - r < PANEL_ROWS ? rows - r : PANEL_ROWS;
        for (int64_t c = 0; c < cols; c += 256) {
            int width = cols - c < 256 ? (int)(cols - c) : 256;
            fill(weights + r * row_bytes, row_bytes, height, c, width, panel_words);
            if (block_size[t].length == 32)
                tiles_32(kind, panel_words, width / 32, act + c / 32 * (int64_t)sizeof(act_q8), act_row, n, y + r, ldy,
                         height, c == 0);
            else
                tiles_256(kind, panel_words, act + c / 256 * (int64_t)sizeof(act_q8k), act_row, n, y + r, ldy, height,
                          c == 0);
        }
    }
}

ALWAYS_INLINE void quant_matmul(dtype t, fill_panel_of_type *fill, const uint8_t *weights, int64_t row_bytes,
                                int64_t rows, int64_t cols, const char *act, int64_t act_row, int64_t n, float *y,
                                int64_t ldy)
{
    if (n >= panel_tokens(t)) {
        panels(t, fill, weights, row_bytes, rows, cols, act, act_row, n, y, ldy);
        return;
    }
    for (int64_t r = 0; r + 8 <= rows; r += 8) {
        int64_t token = 0;
        for (; token + ROW_TOKENS <= n; token += ROW_TOKENS)
            rows_any(t, 8, ROW_TOKENS, weights + r * row_bytes, row_bytes, cols, act + token * act_row, act_row,
                     y + token * ldy + r, ldy);
        for (; token < n; token++)
            rows_any(t, 8, 1, weights + r * row_bytes, row_bytes, cols, act + token * act_row, act_row,
                     y + token * ldy + r, ldy);
    }
    for (int64_t r = rows / 8 * 8; r < rows; r++)
        for (int64_t token = 0; token < n; token++)
            rows_any(t, 1, 1, weights + r * row_bytes, 0, cols, act + token * act_row, act_row, y + token * ldy + r,
                     ldy);
}

#endif
