#include "server/cli/random_model.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/buf.h"
#include "engine/base/rng.h"
#include "engine/gguf/gguf.h"
#include "engine/gguf/writer.h"
#include "quant/format/format.h"

struct shape {
    const char *name;
    const char *architecture;
    uint32_t embedding, feed_forward, layers, heads, kv_heads, head_size, rotary, vocab, context,
        original_context;
    bool tied;
};

/* Dimensions from the models' published config.json files; "small" and "tiny" are ours, for tests.
 */
static const struct shape shapes[] = {
    {"phi-3.5-mini", "phi3", 3072, 8192, 32, 32, 32, 96, 96, 32064, 131072, 4096, false},
    {"phi-3-medium", "phi3", 5120, 17920, 40, 40, 10, 128, 128, 32064, 4096, 4096, false},
    {"phi-4", "phi3", 5120, 17920, 40, 40, 10, 128, 128, 100352, 16384, 16384, false},
    {"phi-4-mini", "phi3", 3072, 8192, 32, 24, 8, 128, 96, 200064, 131072, 4096, true},
    {"llama-3.2-1b", "llama", 2048, 8192, 16, 32, 8, 64, 64, 128256, 131072, 131072, true},
    {"tinyllama-1.1b", "llama", 2048, 5632, 22, 32, 4, 64, 64, 32000, 2048, 2048, false},
    {"smollm2-135m", "llama", 576, 1536, 30, 9, 3, 64, 64, 49152, 8192, 8192, true},
    {"small", "phi3", 1024, 2816, 8, 16, 4, 64, 64, 32064, 131072, 4096, false},
    {"tiny", "phi3", 256, 768, 3, 4, 2, 64, 64, 32064, 131072, 4096, false},
};

#define SHAPE_COUNT   (sizeof(shapes) / sizeof(shapes[0]))
#define TENSORS_MAX   512
#define POOL_WEIGHTS  ((size_t)1 << 18) /* encoded once for a row length and type, then repeated */
#define POOLS         4                 /* kept: two types and two row lengths */
#define BYTE_TOKENS   256
#define FIRST_BYTE_ID 3

struct tensor {
    char name[64];
    const struct quant_format *format;
    uint64_t ne[2]; /* ne[1] is 0 for a vector */
};

/* Encoded weights, and what for. */
struct pool {
    unsigned char *data;
    size_t bytes, row;
    const struct quant_format *format;
};

struct build {
    const struct shape *shape;
    const struct quant_format *format; /* of the matrices */
    bool mixed;                        /* Q4_K_M: some in Q6_K */
    struct tensor tensors[TENSORS_MAX];
    size_t count;
    struct gguf_writer *writer;
    struct rng rng;
    struct pool pools[POOLS];
    size_t pool_count; /* ever made */
};

/* ------------------------------------------------------------------ spec */

static const struct shape *find_shape(struct str name)
{
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        if (str_equal_c(name, shapes[i].name)) {
            return &shapes[i];
        }
    }
    return NULL;
}

static enum phid_status unknown_spec(const char *spec, struct phid_error *err)
{
    struct buf known;
    buf_init(&known, 1024);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        buf_printf(&known, "%s%s", i > 0 ? ", " : "", shapes[i].name);
    }
    phid_fail(err, PHID_ERR_ARGUMENT,
              "--random %.60s: expected SHAPE:TYPE with a shape of %s and a type such as q4_k_m, "
              "q8_0 or f16",
              spec, known.data != NULL ? known.data : "");
    buf_fini(&known);
    return PHID_ERR_ARGUMENT;
}

static enum phid_status read_spec(const char *spec, struct build *b, struct phid_error *err)
{
    const char *colon = strchr(spec, ':');
    if (colon == NULL) {
        return unknown_spec(spec, err);
    }
    struct str type = str_of(colon + 1);
    b->shape = find_shape((struct str){spec, (size_t)(colon - spec)});
    b->mixed = type.size == 6 && strncasecmp(type.data, "q4_k_m", 6) == 0;
    b->format = quant_format_find_name(b->mixed ? STR("q4_k") : type);
    if (b->shape == NULL || b->format == NULL) {
        return unknown_spec(spec, err);
    }
    return PHID_OK;
}

/* --------------------------------------------------------------- tensors */

/* Q4_K_M keeps the head, and the tensors that carry values in about half of the layers, in Q6_K. */
static const struct quant_format *format_of(const struct build *b, const char *name, uint32_t layer)
{
    uint32_t layers = b->shape->layers;
    bool carries = strcmp(name, "attn_qkv") == 0 || strcmp(name, "attn_v") == 0 ||
                   strcmp(name, "ffn_down") == 0;
    bool chosen = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    if (b->mixed && (strcmp(name, "output") == 0 || (carries && chosen))) {
        return quant_format_find(QUANT_Q6_K);
    }
    return b->format;
}

static void add(struct build *b, const char *prefix, const char *name,
                const struct quant_format *format, uint64_t columns, uint64_t rows)
{
    if (b->count == TENSORS_MAX) {
        return; /* no shape above has so many */
    }
    struct tensor *t = &b->tensors[b->count++];
    *t = (struct tensor){.format = format, .ne = {columns, rows}};
    snprintf(t->name, sizeof(t->name), "%s%s.weight", prefix, name);
}

static void add_matrix(struct build *b, uint32_t layer, const char *name, uint64_t columns,
                       uint64_t rows)
{
    char prefix[32];
    snprintf(prefix, sizeof(prefix), "blk.%u.", layer);
    add(b, prefix, name, format_of(b, name, layer), columns, rows);
}

static void add_layer(struct build *b, uint32_t layer)
{
    const struct shape *s = b->shape;
    const struct quant_format *f32 = quant_format_find(QUANT_F32);
    uint64_t queries = (uint64_t)s->heads * s->head_size,
             keys = (uint64_t)s->kv_heads * s->head_size;
    char prefix[32];
    snprintf(prefix, sizeof(prefix), "blk.%u.", layer);
    add(b, prefix, "attn_norm", f32, s->embedding, 0);
    add(b, prefix, "ffn_norm", f32, s->embedding, 0);
    if (strcmp(s->architecture, "phi3") == 0) {
        add_matrix(b, layer, "attn_qkv", s->embedding, queries + 2 * keys);
        add_matrix(b, layer, "ffn_up", s->embedding, (uint64_t)2 * s->feed_forward);
    } else {
        add_matrix(b, layer, "attn_q", s->embedding, queries);
        add_matrix(b, layer, "attn_k", s->embedding, keys);
        add_matrix(b, layer, "attn_v", s->embedding, keys);
        add_matrix(b, layer, "ffn_gate", s->embedding, s->feed_forward);
        add_matrix(b, layer, "ffn_up", s->embedding, s->feed_forward);
    }
    add_matrix(b, layer, "attn_output", queries, s->embedding);
    add_matrix(b, layer, "ffn_down", s->feed_forward, s->embedding);
}

static enum phid_status list_tensors(struct build *b, struct phid_error *err)
{
    const struct shape *s = b->shape;
    const struct quant_format *f32 = quant_format_find(QUANT_F32);
    if (s->context > s->original_context) {
        add(b, "", "rope_factors_long", f32, s->rotary / 2, 0);
        add(b, "", "rope_factors_short", f32, s->rotary / 2, 0);
    }
    add(b, "", "token_embd", format_of(b, s->tied ? "output" : "token_embd", 0), s->embedding,
        s->vocab);
    for (uint32_t i = 0; i < s->layers; i++) {
        add_layer(b, i);
    }
    add(b, "", "output_norm", f32, s->embedding, 0);
    if (!s->tied) {
        add(b, "", "output", format_of(b, "output", 0), s->embedding, s->vocab);
    }
    for (size_t i = 0; i < b->count; i++) {
        const struct tensor *t = &b->tensors[i];
        if (t->ne[1] > 0 && t->ne[0] % t->format->block_weights != 0) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "%s: rows of %llu are no whole blocks of %zu (%s); try q8_0 or f16",
                             t->name, (unsigned long long)t->ne[0], t->format->block_weights,
                             t->format->name);
        }
        gguf_writer_add_tensor(b->writer, str_of(t->name), (uint32_t)t->format->type,
                               t->ne[1] > 0 ? 2 : 1, t->ne);
    }
    return PHID_OK;
}

/* -------------------------------------------------------------- metadata */

/* A vocabulary of the right size: three control tokens, the bytes, and words without meaning. */
static enum phid_status add_vocabulary(struct build *b, struct phid_error *err)
{
    size_t count = b->shape->vocab;
    struct str *tokens = calloc(count, sizeof(*tokens));
    float *scores = calloc(count, sizeof(*scores));
    int32_t *types = calloc(count, sizeof(*types));
    char(*names)[12] = calloc(count, sizeof(*names));
    enum phid_status status = PHID_OK;
    if (tokens == NULL || scores == NULL || types == NULL || names == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        static const char *const control[] = {"<unk>", "<s>", "</s>"};
        bool byte = i >= FIRST_BYTE_ID && i < FIRST_BYTE_ID + BYTE_TOKENS;
        if (i < FIRST_BYTE_ID) {
            snprintf(names[i], sizeof(names[i]), "%s", control[i]);
        } else if (byte) {
            snprintf(names[i], sizeof(names[i]), "<0x%02X>", (unsigned)(i - FIRST_BYTE_ID));
        } else {
            snprintf(names[i], sizeof(names[i]), "w%zu", i % 10000000);
        }
        tokens[i] = str_of(names[i]);
        scores[i] = -(float)i;
        types[i] = i == 0 ? 2 : i < FIRST_BYTE_ID ? 3 : byte ? 6 : 1;
    }
    gguf_writer_add_str(b->writer, "tokenizer.ggml.model", STR("llama"));
    gguf_writer_add_strs(b->writer, "tokenizer.ggml.tokens", tokens, count);
    gguf_writer_add_f32s(b->writer, "tokenizer.ggml.scores", scores, count);
    gguf_writer_add_i32s(b->writer, "tokenizer.ggml.token_type", types, count);
    gguf_writer_add_u32(b->writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_add_u32(b->writer, "tokenizer.ggml.eos_token_id", 2);
    gguf_writer_add_u32(b->writer, "tokenizer.ggml.unknown_token_id", 0);
done:
    free(tokens);
    free(scores);
    free(types);
    free(names);
    return status;
}

static void add_u32(struct build *b, const char *key, uint32_t value)
{
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", b->shape->architecture, key);
    gguf_writer_add_u32(b->writer, name, value);
}

static void add_f32(struct build *b, const char *key, float value)
{
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", b->shape->architecture, key);
    gguf_writer_add_f32(b->writer, name, value);
}

static void add_metadata(struct build *b)
{
    const struct shape *s = b->shape;
    gguf_writer_add_str(b->writer, "general.architecture", str_of(s->architecture));
    /* Without the shape: llama.cpp wants more control tokens of a file that is called phi-3. */
    gguf_writer_add_str(b->writer, "general.name", STR("random weights"));
    add_u32(b, "context_length", s->context);
    add_u32(b, "embedding_length", s->embedding);
    add_u32(b, "feed_forward_length", s->feed_forward);
    add_u32(b, "block_count", s->layers);
    add_u32(b, "attention.head_count", s->heads);
    add_u32(b, "attention.head_count_kv", s->kv_heads);
    add_u32(b, "attention.key_length", s->head_size);
    add_u32(b, "attention.value_length", s->head_size);
    add_u32(b, "rope.dimension_count", s->rotary);
    add_u32(b, "vocab_size", s->vocab);
    add_f32(b, "attention.layer_norm_rms_epsilon", 1e-5f);
    add_f32(b, "rope.freq_base", 10000.0f);
    if (strcmp(s->architecture, "phi3") == 0) {
        /* Longer than any context, as in Phi-3.5's own files; ik_llama.cpp asks for it. */
        add_u32(b, "attention.sliding_window", 2 * s->context);
    }
    if (s->context > s->original_context) {
        double stretch = (double)s->context / s->original_context;
        add_u32(b, "rope.scaling.original_context_length", s->original_context);
        add_f32(b, "rope.scaling.attn_factor",
                (float)sqrt(1 + log(stretch) / log((double)s->original_context)));
    }
}

/* ------------------------------------------------------------------ data */

static struct pool *find_pool(struct build *b, const struct tensor *t)
{
    for (size_t i = 0; i < POOLS; i++) {
        if (b->pools[i].format == t->format && b->pools[i].row == t->ne[0]) {
            return &b->pools[i];
        }
    }
    return NULL;
}

/* Encodes normal weights of the usual spread, 1 / sqrt(row length). */
static enum phid_status make_pool(struct build *b, const struct tensor *t, struct pool **ret,
                                  struct phid_error *err)
{
    *ret = find_pool(b, t);
    if (*ret != NULL) {
        return PHID_OK;
    }
    size_t weights = POOL_WEIGHTS;
    size_t bytes = weights / t->format->block_weights * t->format->block_bytes;
    float spread = 1.0f / sqrtf((float)t->ne[0]);
    float *values = malloc(weights * sizeof(*values));
    unsigned char *data = malloc(bytes);
    if (values == NULL || data == NULL) {
        free(values);
        free(data);
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < weights; i++) {
        values[i] = spread * rng_normal(&b->rng);
    }
    t->format->encode(values, data, weights);
    free(values);
    *ret = &b->pools[b->pool_count++ % POOLS];
    free((*ret)->data);
    **ret = (struct pool){.data = data, .bytes = bytes, .row = t->ne[0], .format = t->format};
    return PHID_OK;
}

/* The pool again and again, starting at a block of its own for each tensor. */
static enum phid_status write_matrix(struct build *b, const struct tensor *t,
                                     struct phid_error *err)
{
    struct pool *pool;
    enum phid_status status = make_pool(b, t, &pool, err);
    if (status != PHID_OK) {
        return status;
    }
    uint64_t left = t->ne[0] / t->format->block_weights * t->ne[1] * t->format->block_bytes;
    size_t blocks = pool->bytes / t->format->block_bytes;
    size_t at = (size_t)rng_below(&b->rng, blocks) * t->format->block_bytes;
    while (left > 0 && status == PHID_OK) {
        size_t piece = pool->bytes - at;
        piece = left < piece ? (size_t)left : piece;
        status = gguf_writer_data(b->writer, pool->data + at, piece, err);
        left -= piece;
        at = 0;
    }
    return status;
}

/* Norms around 1; rotary factors rising from 1 to 65 (long) or 3 (short), as the published ones do.
 */
static enum phid_status write_vector(struct build *b, const struct tensor *t,
                                     struct phid_error *err)
{
    size_t count = (size_t)t->ne[0];
    float *values = malloc(count * sizeof(*values));
    if (values == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        float place = (float)i / (float)count;
        values[i] = strncmp(t->name, "rope_factors_long", 17) == 0 ? 1 + 64 * place
                    : strncmp(t->name, "rope_factors_short", 18) == 0
                        ? 1 + 2 * place
                        : 1 + 0.05f * rng_normal(&b->rng);
    }
    enum phid_status status = gguf_writer_data(b->writer, values, count * sizeof(*values), err);
    free(values);
    return status;
}

static enum phid_status write_file(struct build *b, const char *path, struct phid_error *err)
{
    enum phid_status status = gguf_writer_new(&b->writer, err);
    if (status == PHID_OK) {
        add_metadata(b);
        status = add_vocabulary(b, err);
    }
    if (status == PHID_OK) {
        status = list_tensors(b, err);
    }
    if (status == PHID_OK) {
        status = gguf_writer_begin(b->writer, path, err);
    }
    for (size_t i = 0; i < b->count && status == PHID_OK; i++) {
        const struct tensor *t = &b->tensors[i];
        status = t->ne[1] > 0 ? write_matrix(b, t, err) : write_vector(b, t, err);
    }
    return status == PHID_OK ? gguf_writer_end(b->writer, err) : status;
}

/* ------------------------------------------------------------------ file */

/* Bytes of all matrices, about. */
static uint64_t size_of(const struct build *b)
{
    const struct shape *s = b->shape;
    uint64_t layer =
        (uint64_t)s->embedding * (2 * s->heads * s->head_size + 2 * s->kv_heads * s->head_size +
                                  3 * (uint64_t)s->feed_forward);
    uint64_t weights = layer * s->layers + (uint64_t)s->embedding * s->vocab * 2;
    return weights / b->format->block_weights * b->format->block_bytes * 5 / 4;
}

/* A folder in memory with room, else one on the disk (whose pages stay in memory where there is
 * room). */
static enum phid_status make_folder(uint64_t bytes, char *folder, size_t size,
                                    struct phid_error *err)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/var/tmp", "."};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct statvfs info;
        if (statvfs(places[i], &info) != 0 || (uint64_t)info.f_bavail * info.f_frsize < bytes) {
            continue;
        }
        snprintf(folder, size, "%s/phid-random-XXXXXX", places[i]);
        if (mkdtemp(folder) != NULL) {
            return PHID_OK;
        }
    }
    return phid_fail(err, PHID_ERR_IO,
                     "no room for %llu bytes of random weights in /dev/shm or /tmp",
                     (unsigned long long)bytes);
}

enum phid_status random_model_make(const char *spec, struct random_model *ret,
                                   struct phid_error *err)
{
    char folder[64] = "", path[96];
    struct build *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    rng_init(&b->rng, 1);
    enum phid_status status = read_spec(spec, b, err);
    if (status == PHID_OK) {
        status = make_folder(size_of(b), folder, sizeof(folder), err);
    }
    if (status == PHID_OK) {
        snprintf(path, sizeof(path), "%s/model.gguf", folder);
        status = write_file(b, path, err);
        int fd = status == PHID_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (status == PHID_OK && fd < 0) {
            status = phid_fail(err, PHID_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
        } else if (status == PHID_OK) {
            ret->fd = fd;
            snprintf(ret->path, sizeof(ret->path), "/proc/self/fd/%d", fd);
        }
        /* Nobody else needs the name; the file lives as long as it is open. */
        unlink(path);
    }
    gguf_writer_free(b->writer);
    if (folder[0] != 0) {
        rmdir(folder);
    }
    for (size_t i = 0; i < POOLS; i++) {
        free(b->pools[i].data);
    }
    free(b);
    return status;
}

void random_model_free(struct random_model *m)
{
    if (m->fd >= 0) {
        close(m->fd);
    }
    m->fd = -1;
}
