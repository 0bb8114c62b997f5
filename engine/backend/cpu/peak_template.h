/* The fastest this instruction set goes, for calibration: multiply-adds between registers, and
 * reading. See multiply_template.h. */

/* Keeps the compiler from seeing that nothing changes between rounds. */
#define HIDE(x) __asm__ volatile("" : "+m"(x))

/* Vectors of sums: enough in flight for any latency, few enough for 16 registers, or for 32 where
 * a vector takes four. */
#define PEAK_SUMS (VEC_REGISTERS == 4 ? 5 : 12 / VEC_REGISTERS)

static double spin_f32(size_t rounds)
{
    const int count = PEAK_SUMS;
    v16f sums[PEAK_SUMS];
    v16f x = f_set1(0.5f);
    v16f y = f_set1(0.25f);
    HIDE(x);
    HIDE(y);
    UNROLL for (int i = 0; i < count; i++)
    {
        sums[i] = f_set1((float)i);
    }
    for (size_t round = 0; round < rounds; round++) {
        UNROLL for (int repeat = 0; repeat < 8; repeat++)
        {
            UNROLL for (int i = 0; i < count; i++)
            {
                sums[i] = f_fma(sums[i], x, y);
            }
        }
    }
    UNROLL for (int i = 0; i < count; i++)
    {
        HIDE(sums[i]);
    }
    return (double)rounds * 8.0 * count * CPU_LANES;
}

#if VEC_HAS_TILES

/* Products of the largest tiles. */
static double spin_int8(size_t rounds)
{
    static const struct tile_shapes full = {
        .palette = 1,
        .row_bytes = {64, 64, 64, 64, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16},
    };
    shape_tiles(&full);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, cpu_peak_bytes, 0);
    _tile_loadd(5, cpu_peak_bytes, 0);
    for (size_t round = 0; round < rounds; round++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    release_tiles();
    return (double)rounds * 4.0 * 16 * 16 * 64;
}

#elif defined(VEC_HAS_PAIRS)

static double spin_int8(size_t rounds)
{
    enum { count = 2 }; /* pairs of vectors, so 16 registers */
    v32i sums[count];
    v128 codes = {c_load(cpu_peak_bytes), c_load(cpu_peak_bytes)};
    int8x16_t y = vld1q_s8((const int8_t *)cpu_peak_bytes);
    HIDE(codes);
    UNROLL for (int i = 0; i < count; i++)
    {
        sums[i] = i_pair(i_zero(), i_zero());
        HIDE(sums[i]); /* or they would be one */
    }
    for (size_t round = 0; round < rounds; round++) {
        UNROLL for (int repeat = 0; repeat < 8; repeat++)
        {
            UNROLL for (int i = 0; i < count; i++)
            {
                sums[i] = i_dot8(sums[i], codes, y);
            }
        }
    }
    UNROLL for (int i = 0; i < count; i++)
    {
        HIDE(sums[i]);
    }
    return (double)rounds * 8.0 * count * 4 * R16_VECTOR;
}

#elif VEC_HAS_DOT4

static double spin_int8(size_t rounds)
{
    const int count = PEAK_SUMS;
    v16i sums[PEAK_SUMS];
    v64 codes = c_bits(c_load(cpu_peak_bytes), 0, 15);
    int8_t y[64];
    memcpy(y, cpu_peak_bytes, sizeof(y));
    HIDE(codes);
    UNROLL for (int i = 0; i < count; i++)
    {
        sums[i] = i_zero();
        HIDE(sums[i]); /* or they would be one */
    }
    for (size_t round = 0; round < rounds; round++) {
        UNROLL for (int repeat = 0; repeat < 8; repeat++)
        {
            UNROLL for (int i = 0; i < count; i++)
            {
                sums[i] = i_dot4(sums[i], codes, y, 0);
            }
        }
    }
    UNROLL for (int i = 0; i < count; i++)
    {
        HIDE(sums[i]);
    }
    return (double)rounds * 8.0 * count * R16_VECTOR;
}

#else

/* As for 4-bit codes: eight products in 16 bits, then widened. */
static double spin_int8(size_t rounds)
{
    enum { count = 4 };
    v64 codes = c_bits(c_load(cpu_peak_bytes), 0, 15);
    v16i sum = i_zero();
    for (size_t round = 0; round < rounds; round++) {
        v64 pairs[count];
        UNROLL for (int i = 0; i < count; i++)
        {
            pairs[i] = w_zero();
        }
        UNROLL for (int repeat = 0; repeat < 8; repeat++)
        {
            UNROLL for (int i = 0; i < count; i += 2)
            {
                v64 one = w_products(codes, (const int8_t *)cpu_peak_bytes);
                v64 two = w_products(codes, (const int8_t *)cpu_peak_bytes + 4);
                pairs[i] = w_add(pairs[i], one);
                pairs[i + 1] = w_add(pairs[i + 1], two);
                c_hide(&codes); /* or the products of one repeat would do for all */
            }
        }
        UNROLL for (int i = 0; i < count; i++)
        {
            sum = i_add_pairs(sum, pairs[i]);
        }
    }
    HIDE(sum);
    return (double)rounds * 8.0 * count * R16_VECTOR;
}

#endif

/* A line of each stream in turn. */
static void read_all(const unsigned char *data, size_t bytes, size_t streams)
{
    const size_t apart = bytes / streams / R16_VECTOR * R16_VECTOR;
    v64 seen = c_load(data);
    for (size_t at = 0; at < apart; at += R16_VECTOR) {
        for (size_t i = 0; i < streams; i++) {
            const unsigned char *line = data + i * apart + at;
            if (streams == 1) {
                __builtin_prefetch(line + VEC_PREFETCH_BYTES);
            }
            seen = c_or(seen, c_load(line));
        }
    }
    HIDE(seen);
}
