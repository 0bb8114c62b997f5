#include "engine/text/special.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/tokenizer.h"

static const char *const end_texts[] = {
    "</s>",       "<|end|>",    "<|endoftext|>",   "<|im_end|>",
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>",
};

static bool is_bar_token(struct str text)
{
    return text.size > 4 && memcmp(text.data, "<|", 2) == 0 &&
           memcmp(text.data + text.size - 2, "|>", 2) == 0;
}

/* Text in brackets is not typed by accident: `<...>` and `[...]`. */
static bool looks_like_control(struct str text)
{
    if (text.size < 3) {
        return false;
    }
    char first = text.data[0];
    char last = text.data[text.size - 1];
    return (first == '<' && last == '>') || (first == '[' && last == ']');
}

static bool is_end_text(struct str text)
{
    for (size_t i = 0; i < sizeof(end_texts) / sizeof(end_texts[0]); i++) {
        if (str_equal_c(text, end_texts[i])) {
            return true;
        }
    }
    return false;
}

static bool is_special(const struct vocab *v, int32_t id)
{
    int32_t kind = v->kinds[id];
    return v->texts[id].size > 0 &&
           (kind == TOKEN_CONTROL || kind == TOKEN_USER_DEFINED ||
            (kind == TOKEN_UNKNOWN && (id == v->unk || str_equal(v->texts[id], STR("<unk>")))));
}

/* The order of texts as byte strings. */
static int compare_texts(struct str a, struct str b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_ids_by_text(const void *a, const void *b, void *vocab)
{
    const struct vocab *v = vocab;
    int32_t left = *(const int32_t *)a;
    int32_t right = *(const int32_t *)b;
    int order = compare_texts(v->texts[left], v->texts[right]);
    return order != 0 ? order : (left > right) - (left < right);
}

static void set_flags(struct special_table *s, const struct vocab *v)
{
    /* The published tokenizers say which tokens swallow the white space around them, GGUF files do
     * not. Phi-3 and 3.5 are known by their role tokens; `<|endoftext|>` and `<unk>` do not swallow
     * there. Phi-4 is known by `<|im_sep|>` and its dummies. */
    bool phi3 = v->family == VOCAB_SPM && special_find(s, v, STR("<|end|>")) != NULL &&
                special_find(s, v, STR("<|user|>")) != NULL;
    bool phi4 = v->family == VOCAB_BPE && special_find(s, v, STR("<|im_sep|>")) != NULL &&
                special_find(s, v, STR("<|dummy_0|>")) != NULL;
    for (size_t i = 0; i < s->count; i++) {
        struct special *item = &s->items[i];
        struct str text = v->texts[item->id];
        bool endoftext = str_equal(text, STR("<|endoftext|>"));
        item->ends = item->id == v->eos || is_end_text(text) ||
                     (phi3 && str_equal(text, STR("<|assistant|>")));
        item->strip_left = phi4 && is_bar_token(text);
        item->strip_right =
            item->strip_left ||
            (phi3 && !endoftext && (is_bar_token(text) || str_equal(text, STR("</s>"))));
        item->anywhere = v->kinds[item->id] == TOKEN_USER_DEFINED && !item->ends &&
                         item->id != v->bos && !looks_like_control(text);
    }
}

enum phid_status special_table_init(struct special_table *s, const struct vocab *v,
                                    struct phid_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < v->count; i++) {
        count += is_special(v, (int32_t)i);
    }
    int32_t *ids = calloc(count + 1, sizeof(*ids));
    s->items = calloc(count + 1, sizeof(*s->items));
    if (ids == NULL || s->items == NULL) {
        free(ids);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu special tokens", count);
    }
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++) {
        if (is_special(v, (int32_t)i)) {
            ids[n++] = (int32_t)i;
        }
    }
    qsort_r(ids, count, sizeof(*ids), compare_ids_by_text, (void *)(uintptr_t)v);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && str_equal(v->texts[ids[i - 1]], v->texts[ids[i]])) {
            continue; /* of equal texts the lowest id stands */
        }
        s->items[s->count++].id = ids[i];
        s->first[(unsigned char)v->texts[ids[i]].data[0] + 1]++;
    }
    free(ids);
    for (size_t byte = 0; byte < 256; byte++) {
        s->first[byte + 1] += s->first[byte];
    }
    set_flags(s, v);
    return PHID_OK;
}

void special_table_fini(struct special_table *s)
{
    free(s->items);
    memset(s, 0, sizeof(*s));
}

const struct special *special_find(const struct special_table *s, const struct vocab *v,
                                   struct str text)
{
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_texts(v->texts[s->items[middle].id], text);
        if (order == 0) {
            return &s->items[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* The first item from `low` to `high` whose text has at `depth` a byte of at least `byte`; all of
 * them agree up to there. A text that ends at `depth` comes before any byte. */
static size_t lower_bound(const struct special_table *s, const struct vocab *v, size_t low,
                          size_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct str text = v->texts[s->items[middle].id];
        if (text.size > depth && (unsigned char)text.data[depth] >= byte) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

const struct special *special_match(const struct special_table *s, const struct vocab *v,
                                    struct str text, size_t trusted)
{
    if (text.size == 0) {
        return NULL;
    }
    unsigned char lead = (unsigned char)text.data[0];
    size_t low = s->first[lead];
    size_t high = s->first[lead + 1];
    const struct special *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        const struct special *item = &s->items[low];
        if (v->texts[item->id].size == depth && (item->anywhere || depth <= trusted)) {
            best = item;
        }
        if (depth == text.size) {
            break;
        }
        unsigned byte = (unsigned char)text.data[depth];
        low = lower_bound(s, v, low, high, depth, byte);
        high = lower_bound(s, v, low, high, depth, byte + 1);
    }
    return best;
}
