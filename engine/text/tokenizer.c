#include "engine/text/tokenizer.h"

#include <stdlib.h>

#include "engine/text/parts.h"

/* Bool keys that may be absent. */
static enum phid_status read_flag(const struct gguf_file *file, const char *key, bool *value,
                                  struct phid_error *err)
{
    return gguf_find(file, str_of(key)) == NULL ? PHID_OK : gguf_get_bool(file, key, value, err);
}

static enum phid_status read_family(const struct gguf_file *file, enum vocab_family *ret,
                                    struct phid_error *err)
{
    struct str model;
    if (gguf_find(file, STR("tokenizer.ggml.model")) == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.model is missing");
    }
    enum phid_status status = gguf_get_str(file, "tokenizer.ggml.model", &model, err);
    if (status != PHID_OK) {
        return status;
    }
    if (str_equal(model, STR("llama"))) {
        *ret = VOCAB_SPM;
    } else if (str_equal(model, STR("gpt2"))) {
        *ret = VOCAB_BPE;
    } else {
        return phid_fail(err, PHID_ERR_UNSUPPORTED,
                         "tokenizer.ggml.model: unknown tokenizer \"%.*s\"; known are llama, gpt2",
                         model.size < 64 ? (int)model.size : 64, model.data);
    }
    return PHID_OK;
}

/* Files made before the key existed leave it out. */
static enum phid_status read_pre(const struct gguf_file *file, struct str *ret_name,
                                 struct phid_error *err)
{
    *ret_name = STR("default");
    return gguf_find(file, STR("tokenizer.ggml.pre")) != NULL
               ? gguf_get_str(file, "tokenizer.ggml.pre", ret_name, err)
               : PHID_OK;
}

/* Without a name Llama 3 is known by its begin token. */
static enum phid_status read_pretokenizer(const struct gguf_file *file, struct tokenizer *t,
                                          struct phid_error *err)
{
    struct str name;
    enum phid_status status = read_pre(file, &name, err);
    if (status != PHID_OK) {
        return status;
    }
    if (str_equal(name, STR("default")) &&
        special_find(&t->specials, &t->vocab, STR("<|begin_of_text|>")) != NULL) {
        name = STR("llama-bpe");
    }
    return pretokenizer_new(name, &t->pretokenizer, err);
}

static enum phid_status read_bpe(const struct gguf_file *file, struct tokenizer *t,
                                 struct phid_error *err)
{
    enum phid_status status = read_pretokenizer(file, t, err);
    if (status == PHID_OK) {
        t->add_bos = pretokenizer_adds_bos(t->pretokenizer);
        status = merge_table_read(&t->merges, file, &t->vocab, &t->specials, err);
    }
    return status;
}

static enum phid_status read_spm(const struct gguf_file *file, struct tokenizer *t,
                                 struct phid_error *err)
{
    struct str unused; /* any name will do, but a name it must be */
    t->add_bos = true;
    t->space_prefix = true;
    enum phid_status status = read_pre(file, &unused, err);
    if (status == PHID_OK) {
        status = read_flag(file, "tokenizer.ggml.add_space_prefix", &t->space_prefix, err);
    }
    return status == PHID_OK ? merge_table_from_scores(&t->merges, &t->vocab, err) : status;
}

static enum phid_status build_ends(const struct gguf_file *file, struct tokenizer *t,
                                   struct phid_error *err)
{
    t->ends = calloc(t->vocab.count, 1);
    if (t->ends == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the end tokens");
    }
    for (size_t i = 0; i < t->specials.count; i++) {
        if (t->specials.items[i].ends) {
            t->ends[t->specials.items[i].id] = 1;
        }
    }
    if (t->vocab.eos >= 0) {
        t->ends[t->vocab.eos] = 1;
    }
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        uint32_t id = 0;
        if (gguf_find(file, str_of(keys[i])) == NULL) {
            continue;
        }
        enum phid_status status = gguf_get_u32(file, keys[i], &id, err);
        if (status != PHID_OK) {
            return status;
        }
        t->ends[id] = 1; /* vocab_read has checked the range */
    }
    return PHID_OK;
}

enum phid_status tokenizer_new(const struct gguf_file *file, struct tokenizer **ret_tokenizer,
                               struct phid_error *err)
{
    enum vocab_family family = VOCAB_SPM;
    enum phid_status status = read_family(file, &family, err);
    if (status != PHID_OK) {
        return status;
    }
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the tokenizer");
    }
    if ((status = vocab_read(file, family, &t->vocab, err)) != PHID_OK ||
        (status = special_table_init(&t->specials, &t->vocab, err)) != PHID_OK ||
        (status = build_ends(file, t, err)) != PHID_OK) {
        goto fail;
    }
    status = family == VOCAB_SPM ? read_spm(file, t, err) : read_bpe(file, t, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = read_flag(file, "tokenizer.ggml.add_bos_token", &t->add_bos, err);
    if (status != PHID_OK) {
        goto fail;
    }
    if (t->add_bos && t->vocab.bos < 0) {
        if (gguf_find(file, STR("tokenizer.ggml.add_bos_token")) != NULL) {
            status = phid_fail(err, PHID_ERR_FORMAT,
                               "tokenizer.ggml.add_bos_token is true, but "
                               "tokenizer.ggml.bos_token_id is missing");
            goto fail;
        }
        t->add_bos = false; /* the family's habit, for a vocabulary without such a token */
    }
    *ret_tokenizer = t;
    return PHID_OK;

fail:
    tokenizer_free(t);
    return status;
}

void tokenizer_free(struct tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    pretokenizer_free(t->pretokenizer);
    merge_table_fini(&t->merges);
    special_table_fini(&t->specials);
    vocab_fini(&t->vocab);
    free(t->ends);
    free(t);
}

size_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab.count;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->add_bos;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->vocab.bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->vocab.eos;
}

static bool in_range(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.count;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) && t->ends[id] != 0;
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id)
{
    return in_range(t, id) ? (enum token_kind)t->vocab.kinds[id] : TOKEN_UNUSED;
}

int32_t tokenizer_special_id(const struct tokenizer *t, struct str text)
{
    const struct special *s = special_find(&t->specials, &t->vocab, text);
    return s == NULL ? -1 : s->id;
}

struct str tokenizer_piece(const struct tokenizer *t, int32_t id, bool with_control)
{
    if (!in_range(t, id)) {
        return STR("");
    }
    int32_t kind = t->vocab.kinds[id];
    bool visible = kind == TOKEN_NORMAL || kind == TOKEN_BYTE ||
                   (kind == TOKEN_USER_DEFINED && t->ends[id] == 0);
    return visible || with_control ? t->vocab.pieces[id] : STR("");
}

bool tokenizer_strips_first_space(const struct tokenizer *t)
{
    return t->space_prefix;
}
