#include "tests/unit/engine/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/buf.h"

static const char *const pieces[] = {
    "\xe2\x96\x81",
    "\xe2\x96\x81Paris",
    "\xe2\x96\x81is",
    "\xe2\x96\x81nice",
    ".",
    "a",
    "b",
    "c",
    "ab",
    "bc",
    "abc",
    "\n",
    "END",
    "EN",
    "D",
    "\xc3\xa9",
    "\xe6\x97\xa5",
    "\xe2\x96\x81the",
};
enum { PIECE_COUNT = sizeof(pieces) / sizeof(pieces[0]), PIECE_MAX = FAKE_LONG_BYTES + 1 };

static void piece_text(int32_t id, char *text, size_t size)
{
    if (id < FAKE_BYTE) {
        static const char *const control[] = {"<unk>", "<s>", "</s>"};
        snprintf(text, size, "%s", control[id]);
    } else if (id < FAKE_PIECES) {
        snprintf(text, size, "<0x%02X>", (unsigned)(id - FAKE_BYTE));
    } else if (id < FAKE_PIECES + PIECE_COUNT) {
        snprintf(text, size, "%s", pieces[id - FAKE_PIECES]);
    } else if (id == FAKE_LONG) {
        memset(text, 'x', FAKE_LONG_BYTES);
        text[FAKE_LONG_BYTES] = '\0';
    } else {
        snprintf(text, size, "\xe2\x96\x81w%d", (int)id);
    }
}

static int32_t piece_kind(int32_t id)
{
    if (id == 0) {
        return TOKEN_UNKNOWN;
    }
    return id < FAKE_BYTE ? TOKEN_CONTROL : id < FAKE_PIECES ? TOKEN_BYTE : TOKEN_NORMAL;
}

int32_t fake_piece_id(const char *text)
{
    char wanted[PIECE_MAX] = "";
    if (text[0] == ' ') {
        snprintf(wanted, sizeof(wanted), "\xe2\x96\x81%s", text + 1);
    } else {
        snprintf(wanted, sizeof(wanted), "%s", text);
    }
    for (int32_t id = FAKE_PIECES; id < FAKE_VOCAB; id++) {
        char piece[PIECE_MAX];
        piece_text(id, piece, sizeof(piece));
        if (strcmp(piece, wanted) == 0) {
            return id;
        }
    }
    fail_msg("no piece \"%s\"", text);
    return -1;
}

/* The file format, by hand: little-endian numbers, strings with their length in front. */
static void put_u32(struct buf *b, uint32_t value)
{
    buf_append(b, &value, sizeof(value));
}

static void put_u64(struct buf *b, uint64_t value)
{
    buf_append(b, &value, sizeof(value));
}

static void put_string(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    buf_append_c(b, text);
}

static void put_key(struct buf *b, const char *key, enum gguf_type type)
{
    put_string(b, key);
    put_u32(b, type);
}

static void put_array(struct buf *b, const char *key, enum gguf_type type)
{
    put_key(b, key, GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, FAKE_VOCAB);
}

static void write_vocabulary(struct buf *b)
{
    buf_append_c(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, 0); /* tensors */
    put_u64(b, 8); /* keys */
    put_key(b, "general.architecture", GGUF_STRING);
    put_string(b, "llama");
    put_key(b, "tokenizer.ggml.model", GGUF_STRING);
    put_string(b, "llama");
    put_array(b, "tokenizer.ggml.tokens", GGUF_STRING);
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        char piece[PIECE_MAX];
        piece_text(id, piece, sizeof(piece));
        put_string(b, piece);
    }
    put_array(b, "tokenizer.ggml.scores", GGUF_F32);
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        float score = -(float)id;
        buf_append(b, &score, sizeof(score));
    }
    put_array(b, "tokenizer.ggml.token_type", GGUF_I32);
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        put_u32(b, (uint32_t)piece_kind(id));
    }
    put_key(b, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put_u32(b, 1);
    put_key(b, "tokenizer.ggml.eos_token_id", GGUF_U32);
    put_u32(b, FAKE_END);
    put_key(b, "tokenizer.ggml.unknown_token_id", GGUF_U32);
    put_u32(b, 0);
}

void fake_model_init(struct fake_model *m, size_t context, size_t original_context)
{
    memset(m, 0, sizeof(*m));
    struct phid_error error = {0};
    struct buf file;
    buf_init(&file, (size_t)1 << 20);
    write_vocabulary(&file);
    size_t size = 0;
    assert_int_equal(buf_take(&file, &m->file, &size, &error), PHID_OK);
    if (gguf_open_memory(m->file, size, &m->model.file, &error) != PHID_OK ||
        tokenizer_new(m->model.file, &m->model.tokenizer, &error) != PHID_OK) {
        fail_msg("the test's vocabulary: %s", error.message);
    }
    m->model.end_ids = calloc(1, sizeof(int32_t));
    assert_non_null(m->model.end_ids);
    m->model.end_ids[0] = FAKE_END;
    m->model.end_count = 1;
    struct block_model *block = &m->description.block;
    *block = (struct block_model){
        .n_layers = 2,
        .n_embd = 4,
        .n_heads = 1,
        .n_kv_heads = 1,
        .head_dim = 4,
        .n_ff = 4,
        .n_vocab = FAKE_VOCAB,
        .rope_dims = 4,
        .rope_inverse_frequency = {m->inverse_frequency, m->inverse_frequency},
    };
    m->description.architecture = "fake";
    m->description.context_length = context;
    m->description.original_context = original_context;
}

void fake_model_fini(struct fake_model *m)
{
    tokenizer_free(m->model.tokenizer);
    gguf_close(m->model.file);
    free(m->model.end_ids);
    free(m->file);
}
