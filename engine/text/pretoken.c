#define PCRE2_CODE_UNIT_WIDTH 8

#include "engine/text/pretoken.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/base/buf.h"
#include "engine/base/utf8.h"
#include "engine/text/pretoken_class.h"

/* Words, numbers and signs take the space before them. */
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]+| ?[" NUMBER "]+| ?[^" SPACE LETTER NUMBER "]+"        \
    "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* The same after every digit was cut off on its own, so that white space before one ends a text. */
#define DIGITS_GPT2                                                                                \
    "[" DIGIT "]|'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]+| ?[^" SPACE LETTER DIGIT "]+"             \
    "|[" SPACE "]+(?![^" SPACE DIGIT "])|[" SPACE "]+"

/* cl100k and its kin; they differ in how many digits stay together. */
#define CL100K(digits)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]" digits    \
    "| ?[^" SPACE LETTER NUMBER "]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])"   \
    "|[" SPACE "]+"

/* o200k: a word is capitals, then small letters; a contraction stays with its word. */
#define O200K                                                                                      \
    "[^\\r\\n" LETTER NUMBER "]?[" UPPER "]*[" LOWER "]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"             \
    "|[^\\r\\n" LETTER NUMBER "]?[" UPPER "]+[" LOWER "]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"            \
    "|[" NUMBER "]{1,3}| ?[^" SPACE LETTER NUMBER "]+[\\r\\n/]*|[" SPACE "]*[\\r\\n]+"             \
    "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

struct family {
    const char *name; /* `tokenizer.ggml.pre` */
    const char *pattern;
    bool ignore_merges;
    bool add_bos;
};

static const struct family families[] = {
    {"smollm", DIGITS_GPT2, false, false},
    {"starcoder", DIGITS_GPT2, false, false},
    {"refact", DIGITS_GPT2, false, false},
    {"gpt-2", GPT2, false, false},
    {"phi-2", GPT2, false, false},
    {"default", GPT2, false, false}, /* the first byte-level vocabularies named none */
    {"llama-bpe", CL100K("{1,3}"), true, true},
    {"llama3", CL100K("{1,3}"), true, true},
    {"llama-v3", CL100K("{1,3}"), true, true},
    {"dbrx", CL100K("{1,3}"), false, false},
    {"smaug-bpe", CL100K("{1,3}"), false, false},
    {"qwen2", CL100K(""), false, false},
    {"deepseek-r1-qwen", CL100K(""), false, false},
    {"stablelm2", CL100K(""), false, false},
    {"gpt-4o", O200K, false, false},
    {"llama4", O200K, false, false},
};

struct pretokenizer {
    const struct family *family;
    pcre2_code *code;
};

struct pretoken_scan {
    const struct pretokenizer *pretokenizer;
    pcre2_match_context *context;
    pcre2_match_data *match;
};

static const struct family *find_family(struct str name)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        if (str_equal_c(name, families[i].name)) {
            return &families[i];
        }
    }
    return NULL;
}

static enum phid_status fail_unknown(struct str name, struct phid_error *err)
{
    struct buf list;
    buf_init(&list, PHID_ERROR_MESSAGE_MAX);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        buf_printf(&list, "%s%s", i == 0 ? "" : ", ", families[i].name);
    }
    bool shown = name.size <= 64 && utf8_valid(name);
    enum phid_status status =
        phid_fail(err, PHID_ERR_UNSUPPORTED,
                  "tokenizer.ggml.pre: unknown pre-tokenizer \"%.*s\"; known are %s",
                  shown ? (int)name.size : 3, shown ? name.data : "...",
                  list.data != NULL ? list.data : "none");
    buf_fini(&list);
    return status;
}

enum phid_status pretokenizer_new(struct str name, struct pretokenizer **ret,
                                  struct phid_error *err)
{
    const struct family *family = find_family(name);
    if (family == NULL) {
        return fail_unknown(name, err);
    }
    struct pretokenizer *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the pre-tokenizer");
    }
    p->family = family;
    int fault = 0;
    PCRE2_SIZE at = 0;
    /* Anchored: the alternatives cover every character, so a search from `start` never moves on. */
    p->code = pcre2_compile((PCRE2_SPTR)family->pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_ANCHORED, &fault,
                            &at, NULL);
    if (p->code == NULL) {
        pretokenizer_free(p);
        return phid_fail(
            err, fault == PCRE2_ERROR_HEAP_FAILED ? PHID_ERR_MEMORY : PHID_ERR_INTERNAL,
            "pre-tokenizer %s: PCRE2 error %d at %zu", family->name, fault, (size_t)at);
    }
    /* Where code cannot be made at run time the interpreter does the same more slowly. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    *ret = p;
    return PHID_OK;
}

void pretokenizer_free(struct pretokenizer *p)
{
    if (p != NULL) {
        pcre2_code_free(p->code);
        free(p);
    }
}

bool pretokenizer_ignores_merges(const struct pretokenizer *p)
{
    return p->family->ignore_merges;
}

bool pretokenizer_adds_bos(const struct pretokenizer *p)
{
    return p->family->add_bos;
}

struct pretoken_scan *pretoken_scan_new(const struct pretokenizer *p)
{
    struct pretoken_scan *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->pretokenizer = p;
    s->context = pcre2_match_context_create(NULL);
    s->match = pcre2_match_data_create(1, NULL);
    if (s->context == NULL || s->match == NULL) {
        pretoken_scan_free(s);
        return NULL;
    }
    /* Every pattern gives back one character at a time at most once over a run, so the interpreter
     * counts at most a few steps per byte; this is far above any text a request may hold. */
    pcre2_set_match_limit(s->context, UINT32_MAX);
    pcre2_set_heap_limit(s->context, 65536);
    return s;
}

void pretoken_scan_free(struct pretoken_scan *s)
{
    if (s != NULL) {
        pcre2_match_data_free(s->match);
        pcre2_match_context_free(s->context);
        free(s);
    }
}

enum phid_status pretoken_next(struct pretoken_scan *s, struct str text, size_t start,
                               size_t *ret_end, struct phid_error *err)
{
    int count = pcre2_match(s->pretokenizer->code, (PCRE2_SPTR)text.data, text.size, start,
                            PCRE2_NO_UTF_CHECK, s->match, s->context);
    if (count == PCRE2_ERROR_NOMEMORY || count == PCRE2_ERROR_HEAPLIMIT) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory to split the text into words");
    }
    if (count < 0 && count != PCRE2_ERROR_NOMATCH) {
        return phid_fail(err, PHID_ERR_INTERNAL, "pre-tokenizer %s: PCRE2 error %d",
                         s->pretokenizer->family->name, count);
    }
    size_t end = count < 0 ? start : pcre2_get_ovector_pointer(s->match)[1];
    if (end <= start) {
        uint32_t c = 0;
        end = start + utf8_decode((struct str){text.data + start, text.size - start}, &c);
    }
    *ret_end = end > start ? end : text.size;
    return PHID_OK;
}
