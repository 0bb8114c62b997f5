/* What is done to single rows of activations, for any instruction set. See multiply_template.h. */

INLINE v16f f_exp(v16f x)
{
    v16f limited = f_min(f_max(x, f_set1(CPU_EXP_MIN)), f_set1(CPU_EXP_MAX));
    v16f n = f_rint(f_mul(limited, f_set1(CPU_EXP_LOG2E)));
    v16f r = f_fma(n, f_set1(-CPU_EXP_LN2_HI), limited);
    r = f_fma(n, f_set1(-CPU_EXP_LN2_LO), r);
    v16f p = f_set1(cpu_exp_terms[0]);
    UNROLL for (int i = 1; i < CPU_EXP_TERMS; i++)
    {
        p = f_fma(p, r, f_set1(cpu_exp_terms[i]));
    }
    return f_select_below(x, CPU_EXP_MIN, f_zero(), f_scale_by_power(p, n));
}

/* The last n % 16 elements, with zeros behind them. */
INLINE v16f load_tail(const float *x, size_t count)
{
    float lanes[CPU_LANES] = {0};
    memcpy(lanes, x, count * sizeof(*x));
    return f_load(lanes);
}

INLINE void store_tail(float *y, v16f x, size_t count)
{
    float lanes[CPU_LANES];
    f_store(lanes, x);
    memcpy(y, lanes, count * sizeof(*y));
}

/* 16 elements; returns the sum of their codes. */
INLINE int32_t quantize_half(v16f x, float inverse, float scale, int8_t *codes, float *left)
{
    v16f scaled = f_mul(x, f_set1(inverse));
    if (left != NULL) {
        f_store(left, f_sub(x, f_mul(f_set1(scale), f_rint(scaled))));
    }
    return f_store_s8(codes, scaled);
}

static void quantize(const float *x, size_t n, int8_t *codes, float *scale, int32_t *half_sums,
                     float *left)
{
    for (size_t b = 0; b < n / R16_BLOCK; b++, x += R16_BLOCK, codes += R16_BLOCK) {
        v16f first = f_load(x);
        v16f second = f_load(x + 16);
        float m = f_largest(f_max(f_abs(first), f_abs(second)));
        const bool tiny = m < 0x1p-100f;
        const float inverse = tiny ? 0.0f : 127.0f / m;
        float *half_left = left == NULL ? NULL : left + b * R16_BLOCK;
        scale[b] = tiny ? 0.0f : m / 127.0f;
        half_sums[2 * b] = quantize_half(first, inverse, scale[b], codes, half_left);
        half_left = left == NULL ? NULL : half_left + R16_BLOCK / 2;
        half_sums[2 * b + 1] = quantize_half(second, inverse, scale[b], codes + 16, half_left);
    }
}

static void norm(const float *x, const float *weight, size_t n, float eps, float *y)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    v16f squares = f_zero();
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        v16f v = f_load(x + i);
        squares = f_fma(v, v, squares);
    }
    v16f tail = load_tail(x + whole, n - whole);
    squares = f_fma(tail, tail, squares);
    const float scale = cpu_norm_scale(f_sum(squares), n, eps);
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        f_store(y + i, f_mul(f_mul(f_load(x + i), f_set1(scale)), f_load(weight + i)));
    }
    tail = f_mul(f_mul(tail, f_set1(scale)), load_tail(weight + whole, n - whole));
    store_tail(y + whole, tail, n - whole);
}

INLINE v16f silu_mul_vector(v16f gate, v16f up)
{
    v16f e = f_exp(f_sub(f_zero(), gate));
    return f_mul(f_div(gate, f_add(f_set1(1.0f), e)), up);
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        f_store(gate + i, silu_mul_vector(f_load(gate + i), f_load(up + i)));
    }
    if (whole < n) {
        v16f tail =
            silu_mul_vector(load_tail(gate + whole, n - whole), load_tail(up + whole, n - whole));
        store_tail(gate + whole, tail, n - whole);
    }
}

static void add(float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) {
        f_store(x + i, f_add(f_load(x + i), f_load(y + i)));
    }
    for (; i < n; i++) {
        x[i] += y[i];
    }
}

INLINE v16f f_limit_f16(v16f x)
{
    return f_max(f_min(x, f_set1(65504.0f)), f_set1(-65504.0f));
}

INLINE float largest_size(const float *x, size_t n)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    v16f m = f_abs(load_tail(x + whole, n - whole));
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        m = f_max(m, f_abs(f_load(x + i)));
    }
    return f_largest(f_min(m, f_set1(65504.0f)));
}

static float to_s8(const float *x, int8_t *codes, size_t n, float limit)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    const float m = largest_size(x, n);
    const v16f inverse = f_set1(m < 0x1p-100f ? 0.0f : limit / m);
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        f_store_s8(codes + i, f_mul(f_limit_f16(f_load(x + i)), inverse));
    }
    int8_t tail[CPU_LANES];
    f_store_s8(tail, f_mul(f_limit_f16(load_tail(x + whole, n - whole)), inverse));
    memcpy(codes + whole, tail, n - whole);
    return m < 0x1p-100f ? 0.0f : m / limit;
}

static float to_s16(const float *x, int16_t *codes, size_t n, float limit)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    const float m = largest_size(x, n);
    const v16f inverse = f_set1(m < 0x1p-100f ? 0.0f : limit / m);
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        f_store_s16(codes + i, f_mul(f_limit_f16(f_load(x + i)), inverse));
    }
    int16_t tail[CPU_LANES];
    f_store_s16(tail, f_mul(f_limit_f16(load_tail(x + whole, n - whole)), inverse));
    memcpy(codes + whole, tail, (n - whole) * sizeof(*codes));
    return m < 0x1p-100f ? 0.0f : m / limit;
}

static void to_f16(const float *x, uint16_t *y, size_t n)
{
    const size_t whole = n / CPU_LANES * CPU_LANES;
    for (size_t i = 0; i < whole; i += CPU_LANES) {
        f_store_f16(y + i, f_limit_f16(f_load(x + i)));
    }
    uint16_t tail[CPU_LANES];
    f_store_f16(tail, f_limit_f16(load_tail(x + whole, n - whole)));
    memcpy(y + whole, tail, (n - whole) * sizeof(*y));
}
