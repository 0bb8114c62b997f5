#include "engine/text/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <sys/random.h>

#include "engine/base/utf8.h"
#include "engine/text/byte_level.h"
#include "engine/text/tokenizer.h"

#define HASH_PRIME (((uint64_t)1 << 61) - 1)

static uint64_t mod_mul(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    uint64_t sum = (uint64_t)(product & HASH_PRIME) + (uint64_t)(product >> 61);
    return sum >= HASH_PRIME ? sum - HASH_PRIME : sum;
}

static uint64_t mod_add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;
    return sum >= HASH_PRIME ? sum - HASH_PRIME : sum;
}

uint64_t vocab_hash_append(const struct vocab *v, uint64_t hash, unsigned char byte)
{
    return mod_add(mod_mul(hash, v->hash_base), byte + 1U);
}

uint64_t vocab_hash_prepend(uint64_t hash, unsigned char byte, uint64_t power)
{
    return mod_add(mod_mul(byte + 1U, power), hash);
}

uint64_t vocab_hash_power(const struct vocab *v, uint64_t power)
{
    return mod_mul(power, v->hash_base);
}

uint64_t vocab_hash(const struct vocab *v, struct str text)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < text.size; i++) {
        hash = vocab_hash_append(v, hash, (unsigned char)text.data[i]);
    }
    return hash;
}

static size_t slot_of(const struct vocab *v, uint64_t hash)
{
    return (size_t)(hash ^ hash >> 32) & v->slot_mask;
}

int32_t vocab_find_hashed(const struct vocab *v, struct str text, uint64_t hash)
{
    for (size_t i = slot_of(v, hash); v->slots[i] != 0; i = (i + 1) & v->slot_mask) {
        int32_t id = (int32_t)(v->slots[i] - 1);
        if (str_equal(v->texts[id], text)) {
            return id;
        }
    }
    return -1;
}

int32_t vocab_find(const struct vocab *v, struct str text)
{
    return text.size > v->max_ordinary_bytes ? -1 : vocab_find_hashed(v, text, vocab_hash(v, text));
}

const char *vocab_quote(const struct vocab *v, int32_t id, char *out, size_t size)
{
    struct str text = v->texts[id];
    size_t n = text.size < size - 1 ? text.size : size - 1;
    while (n > 0 && n < text.size && ((unsigned char)text.data[n] & 0xC0) == 0x80) {
        n--;
    }
    memcpy(out, text.data, n);
    out[n] = 0;
    return out;
}

static enum phid_status check_array(const struct gguf_file *file, const char *key, bool is_float,
                                    struct phid_error *err)
{
    const struct gguf_entry *entry = gguf_find(file, str_of(key));
    if (entry == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "%s is missing", key);
    }
    bool fits = entry->type == GGUF_ARRAY &&
                (is_float ? entry->element_type == GGUF_F32
                          : entry->element_type == GGUF_I32 || entry->element_type == GGUF_U32);
    if (!fits) {
        return phid_fail(
            err, PHID_ERR_FORMAT, "%s at byte %llu: expected an array of %s, found %s%s", key,
            (unsigned long long)entry->offset, is_float ? "f32" : "i32",
            entry->type == GGUF_ARRAY ? "an array of " : "",
            gguf_type_name(entry->type == GGUF_ARRAY ? entry->element_type : entry->type));
    }
    return PHID_OK;
}

static enum phid_status check_count(const char *key, size_t found, size_t expected,
                                    struct phid_error *err)
{
    if (found != expected) {
        return phid_fail(err, PHID_ERR_FORMAT, "%s has %zu elements, tokenizer.ggml.tokens has %zu",
                         key, found, expected);
    }
    return PHID_OK;
}

static enum phid_status check_texts(const struct vocab *v, struct phid_error *err)
{
    for (size_t i = 0; i < v->count; i++) {
        if (v->texts[i].size > VOCAB_MAX_TOKEN_BYTES) {
            return phid_fail(
                err, PHID_ERR_FORMAT,
                "tokenizer.ggml.tokens: token %zu has %zu bytes, at most %zu are allowed", i,
                v->texts[i].size, VOCAB_MAX_TOKEN_BYTES);
        }
        if (!utf8_valid(v->texts[i])) {
            return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.tokens: token %zu is not UTF-8",
                             i);
        }
    }
    return PHID_OK;
}

/* From here on the vocabulary does not need the file, which may be cut or replaced while it serves.
 */
static enum phid_status own_texts(struct vocab *v, struct phid_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < v->count; i++) {
        total += v->texts[i].size; /* at most 2^24 * 2^12 */
    }
    v->text_bytes = malloc(total + 1);
    if (v->text_bytes == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a vocabulary of %zu tokens",
                         v->count);
    }
    char *to = v->text_bytes;
    for (size_t i = 0; i < v->count; i++) {
        memcpy(to, v->texts[i].data, v->texts[i].size);
        v->texts[i].data = to;
        to += v->texts[i].size;
    }
    return PHID_OK;
}

static enum phid_status read_arrays(const struct gguf_file *file, struct vocab *v,
                                    struct phid_error *err)
{
    if (gguf_find(file, STR("tokenizer.ggml.tokens")) == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.tokens is missing");
    }
    enum phid_status status =
        gguf_get_strings(file, "tokenizer.ggml.tokens", &v->texts, &v->count, err);
    if (status != PHID_OK) {
        return status;
    }
    if (v->count == 0 || v->count > VOCAB_MAX_TOKENS) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tokenizer.ggml.tokens has %zu elements, expected 1 to %zu", v->count,
                         VOCAB_MAX_TOKENS);
    }
    size_t count = 0;
    const char *key = "tokenizer.ggml.token_type";
    if ((status = check_array(file, key, false, err)) != PHID_OK ||
        (status = gguf_get_i32s(file, key, &v->kinds, &count, err)) != PHID_OK ||
        (status = check_count(key, count, v->count, err)) != PHID_OK) {
        return status;
    }
    for (size_t i = 0; i < v->count; i++) {
        if (v->kinds[i] < TOKEN_NORMAL || v->kinds[i] > TOKEN_BYTE) {
            return phid_fail(err, PHID_ERR_FORMAT, "%s: token %zu has the unknown type %d", key, i,
                             (int)v->kinds[i]);
        }
    }
    key = "tokenizer.ggml.scores";
    if (v->family == VOCAB_BPE && gguf_find(file, str_of(key)) == NULL) {
        return PHID_OK;
    }
    if ((status = check_array(file, key, true, err)) != PHID_OK ||
        (status = gguf_get_f32s(file, key, &v->scores, &count, err)) != PHID_OK ||
        (status = check_count(key, count, v->count, err)) != PHID_OK) {
        return status;
    }
    for (size_t i = 0; i < v->count; i++) {
        if (!isfinite(v->scores[i])) {
            return phid_fail(err, PHID_ERR_FORMAT, "%s: the score of token %zu is not a number",
                             key, i);
        }
    }
    return PHID_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* `<0x` two hexadecimal digits `>`; -1 for any other text. */
static int byte_of_text(struct str text)
{
    if (text.size != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') {
        return -1;
    }
    int high = hex_digit(text.data[3]);
    int low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* U+2581 becomes a space, everything else is copied. */
static size_t spm_decode(struct str text, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size;) {
        if (text.size - i >= 3 && memcmp(text.data + i, "\xE2\x96\x81", 3) == 0) {
            out[size++] = ' ';
            i += 3;
        } else {
            out[size++] = text.data[i++];
        }
    }
    return size;
}

static enum phid_status add_byte(struct vocab *v, int32_t id, int byte, struct phid_error *err)
{
    if (byte < 0) {
        char text[64];
        return phid_fail(
            err, PHID_ERR_FORMAT,
            "tokenizer.ggml.tokens: byte token %d is \"%s\", expected <0x00> to <0xFF>", (int)id,
            vocab_quote(v, id, text, sizeof(text)));
    }
    if (v->byte_ids[byte] >= 0) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tokenizer.ggml.tokens: tokens %d and %d both stand for the byte 0x%02X",
                         (int)v->byte_ids[byte], (int)id, (unsigned)byte);
    }
    v->byte_ids[byte] = id;
    return PHID_OK;
}

/* Works out the bytes every token stands for, and the tokens of single bytes. */
static enum phid_status build_pieces(struct vocab *v, struct phid_error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < v->count; i++) {
        total += v->texts[i].size; /* at most 2^24 * 2^12 */
    }
    v->pieces = calloc(v->count, sizeof(*v->pieces));
    v->piece_bytes = malloc(total + 1);
    if (v->pieces == NULL || v->piece_bytes == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a vocabulary of %zu tokens",
                         v->count);
    }
    size_t used = 0;
    for (size_t i = 0; i < v->count; i++) {
        struct str text = v->texts[i];
        char *out = v->piece_bytes + used;
        size_t size = 0;
        if (v->kinds[i] == TOKEN_BYTE) {
            int byte = byte_of_text(text);
            enum phid_status status = add_byte(v, (int32_t)i, byte, err);
            if (status != PHID_OK) {
                return status;
            }
            out[0] = (char)byte;
            size = 1;
        } else if (v->kinds[i] == TOKEN_NORMAL) {
            size = v->family == VOCAB_SPM ? spm_decode(text, out) : byte_level_decode(text, out);
        } else {
            v->pieces[i] = text;
            continue;
        }
        v->pieces[i] = (struct str){.data = out, .size = size};
        used += size;
    }
    return PHID_OK;
}

static enum phid_status insert(struct vocab *v, int32_t id, struct phid_error *err)
{
    struct str text = v->texts[id];
    uint64_t hash = vocab_hash(v, text);
    int32_t twin = vocab_find_hashed(v, text, hash);
    if (twin >= 0) {
        char quoted[64];
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tokenizer.ggml.tokens: tokens %d and %d have the same text \"%s\"",
                         (int)twin, (int)id, vocab_quote(v, id, quoted, sizeof(quoted)));
    }
    size_t i = slot_of(v, hash);
    while (v->slots[i] != 0) {
        i = (i + 1) & v->slot_mask;
    }
    v->slots[i] = (uint32_t)id + 1;
    if (text.size > v->max_ordinary_bytes) {
        v->max_ordinary_bytes = text.size;
    }
    return PHID_OK;
}

/* Ordinary tokens by text. Others are left out: a merge must never yield a control token. */
static enum phid_status build_slots(struct vocab *v, struct phid_error *err)
{
    size_t slots = 16;
    while (slots < v->count * 2) {
        slots *= 2;
    }
    v->slots = calloc(slots, sizeof(*v->slots));
    if (v->slots == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a vocabulary of %zu tokens",
                         v->count);
    }
    v->slot_mask = slots - 1;
    size_t ordinary = 0;
    for (size_t i = 0; i < v->count; i++) {
        if (v->kinds[i] != TOKEN_NORMAL || v->texts[i].size == 0) {
            continue;
        }
        enum phid_status status = insert(v, (int32_t)i, err);
        if (status != PHID_OK) {
            return status;
        }
        ordinary++;
    }
    if (ordinary == 0) {
        return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.tokens: no token is ordinary text");
    }
    return PHID_OK;
}

/* An id key: absent is -1, beyond the vocabulary an error. */
static enum phid_status read_id(const struct gguf_file *file, const char *key,
                                const struct vocab *v, int32_t *ret, struct phid_error *err)
{
    *ret = -1;
    if (gguf_find(file, str_of(key)) == NULL) {
        return PHID_OK;
    }
    uint64_t id = 0;
    enum phid_status status = gguf_get_u64(file, key, &id, err);
    if (status != PHID_OK) {
        return status;
    }
    if (id >= v->count) {
        return phid_fail(err, PHID_ERR_FORMAT, "%s is %llu, the vocabulary has %zu tokens", key,
                         (unsigned long long)id, v->count);
    }
    *ret = (int32_t)id;
    return PHID_OK;
}

static enum phid_status read_ids(const struct gguf_file *file, struct vocab *v,
                                 struct phid_error *err)
{
    int32_t unused = -1;
    const struct {
        const char *key;
        int32_t *ret;
    } keys[] = {
        {"tokenizer.ggml.bos_token_id", &v->bos},
        {"tokenizer.ggml.eos_token_id", &v->eos},
        {"tokenizer.ggml.unknown_token_id", &v->unk},
        {"tokenizer.ggml.padding_token_id", &unused},
        {"tokenizer.ggml.separator_token_id", &unused},
        {"tokenizer.ggml.seperator_token_id", &unused}, /* as older converters spell it */
        {"tokenizer.ggml.cls_token_id", &unused},
        {"tokenizer.ggml.mask_token_id", &unused},
        {"tokenizer.ggml.eot_token_id", &unused},
        {"tokenizer.ggml.eom_token_id", &unused},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        enum phid_status status = read_id(file, keys[i].key, v, keys[i].ret, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    return PHID_OK;
}

/* Text that no token covers falls back to bytes; where they are missing there must be an unknown
 * token, and not one that means something else (SmolLM2 names its end token here). Byte-level
 * vocabularies may lack the bytes they were never trained on (SmolLM2 lacks 21), but not those of
 * plain English. */
static enum phid_status check_fallback(struct vocab *v, struct phid_error *err)
{
    if (v->unk >= 0 && (v->unk == v->bos || v->unk == v->eos || v->kinds[v->unk] == TOKEN_NORMAL ||
                        str_equal(v->texts[v->unk], STR("<|endoftext|>")))) {
        v->unk = -1;
    }
    for (int byte = 0; byte < 256 && v->unk < 0; byte++) {
        bool needed = v->family == VOCAB_SPM || byte == '\n' || (byte >= 0x20 && byte <= 0x7E);
        if (needed && v->byte_ids[byte] < 0) {
            return phid_fail(
                err, PHID_ERR_FORMAT,
                "tokenizer.ggml.tokens: no token for the byte 0x%02X and no unknown token",
                (unsigned)byte);
        }
    }
    return PHID_OK;
}

enum phid_status vocab_read(const struct gguf_file *file, enum vocab_family family, struct vocab *v,
                            struct phid_error *err)
{
    v->family = family;
    /* Drawn anew for each vocabulary, so that a file's author cannot make texts collide. */
    uint64_t draw = 0;
    if (getrandom(&draw, sizeof(draw), 0) != (ssize_t)sizeof(draw)) {
        draw = (uintptr_t)file;
    }
    v->hash_base = draw % (HASH_PRIME - 65536) + 65536;
    memset(v->byte_ids, 0xFF, sizeof(v->byte_ids));
    v->bos = v->eos = v->unk = -1;
    enum phid_status status;
    if ((status = read_arrays(file, v, err)) != PHID_OK ||
        (status = check_texts(v, err)) != PHID_OK || (status = own_texts(v, err)) != PHID_OK ||
        (status = read_ids(file, v, err)) != PHID_OK ||
        (status = build_pieces(v, err)) != PHID_OK || (status = build_slots(v, err)) != PHID_OK) {
        return status;
    }
    for (int byte = 0; family == VOCAB_BPE && byte < 256; byte++) {
        char text[4];
        size_t size = utf8_encode(byte_level_char((unsigned char)byte), text);
        int32_t id = vocab_find(v, (struct str){.data = text, .size = size});
        v->byte_ids[byte] = id >= 0 ? id : v->byte_ids[byte];
    }
    return check_fallback(v, err);
}

void vocab_fini(struct vocab *v)
{
    free(v->texts);
    free(v->text_bytes);
    free(v->kinds);
    free(v->scores);
    free(v->pieces);
    free(v->piece_bytes);
    free(v->slots);
    memset(v, 0, sizeof(*v));
}
