/* tokenizer_encode: spans to one text, special tokens cut out of it, the rest merged. */
#include "engine/text/tokenizer.h"

#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/base/utf8.h"
#include "engine/text/byte_level.h"
#include "engine/text/parts.h"
#include "engine/text/space.h"

/* Node numbers and heap keys are 32 bits wide. */
#define TEXT_MAX_BYTES ((size_t)1 << 30)

#define WORD_SEPARATOR "\xE2\x96\x81" /* U+2581, SentencePiece's space */

/* A stretch of trusted or untrusted bytes; neighbours of one kind are joined. */
struct stretch {
    size_t end;
    bool trusted;
};

struct job {
    const struct tokenizer *t;
    struct str text;
    char *joined;              /* heap; the text when there are several spans */
    struct stretch *stretches; /* heap */
    size_t stretch_count;
    struct merge_work work;
    struct pretoken_scan *scan;
    struct tokens *out;
    char *word; /* heap; a piece in the byte-level alphabet */
    struct phid_error *err;
};

static enum phid_status no_memory(struct job *job)
{
    return phid_fail(job->err, PHID_ERR_MEMORY, "no memory to tokenize %zu bytes", job->text.size);
}

static enum phid_status join_spans(struct job *job, const struct text_span *spans, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (!checked_add(total, spans[i].text.size, &total) || total > TEXT_MAX_BYTES) {
            return phid_fail(job->err, PHID_ERR_ARGUMENT, "the text is longer than %zu bytes",
                             TEXT_MAX_BYTES);
        }
    }
    job->text.size = total;
    job->joined = malloc(total + 1);
    job->stretches = calloc(count + 1, sizeof(*job->stretches));
    if (job->joined == NULL || job->stretches == NULL) {
        return no_memory(job);
    }
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (spans[i].text.size == 0) {
            continue;
        }
        memcpy(job->joined + used, spans[i].text.data, spans[i].text.size);
        used += spans[i].text.size;
        size_t last = job->stretch_count;
        if (last == 0 || job->stretches[last - 1].trusted != spans[i].trusted) {
            job->stretches[job->stretch_count++].trusted = spans[i].trusted;
        }
        job->stretches[job->stretch_count - 1].end = used;
    }
    job->text.data = job->joined;
    return PHID_OK;
}

/* The tokens of one SentencePiece character: itself, else its bytes, else the unknown token, one
 * for a run of unknown characters. */
static bool push_character(struct job *job, struct str c, int32_t *last)
{
    const struct vocab *v = &job->t->vocab;
    int32_t id = vocab_find(v, c);
    if (id >= 0) {
        *last = id;
        return merge_work_push(&job->work, id);
    }
    bool bytes = true;
    for (size_t i = 0; i < c.size; i++) {
        bytes = bytes && v->byte_ids[(unsigned char)c.data[i]] >= 0;
    }
    if (!bytes) {
        bool again = *last == v->unk;
        *last = v->unk;
        return again || v->unk < 0 || merge_work_push(&job->work, v->unk);
    }
    for (size_t i = 0; i < c.size; i++) {
        *last = v->byte_ids[(unsigned char)c.data[i]];
        if (!merge_work_push(&job->work, *last)) {
            return false;
        }
    }
    return true;
}

static enum phid_status encode_spm(struct job *job, struct str text)
{
    int32_t last = INT32_MIN;
    if (job->t->space_prefix && !push_character(job, STR(WORD_SEPARATOR), &last)) {
        return no_memory(job);
    }
    while (text.size > 0) {
        uint32_t code = 0;
        size_t size = utf8_decode(text, &code);
        struct str c = {.data = text.data, .size = size == 0 ? 1 : size};
        text.data += c.size;
        text.size -= c.size;
        if (!push_character(job, code == ' ' ? STR(WORD_SEPARATOR) : c, &last)) {
            return no_memory(job);
        }
    }
    return merge_apply(&job->t->merges, &job->work, job->out) ? PHID_OK : no_memory(job);
}

/* One piece of a pre-tokenizer, or a run of bytes that are not UTF-8. */
static enum phid_status encode_piece(struct job *job, struct str piece)
{
    const struct vocab *v = &job->t->vocab;
    if (pretokenizer_ignores_merges(job->t->pretokenizer) && piece.size <= v->max_ordinary_bytes) {
        struct str word = {.data = job->word, .size = byte_level_encode(piece, job->word)};
        int32_t id = vocab_find(v, word);
        if (id >= 0) {
            return tokens_push(job->out, id) ? PHID_OK : no_memory(job);
        }
    }
    for (size_t i = 0; i < piece.size; i++) {
        int32_t id = v->byte_ids[(unsigned char)piece.data[i]];
        id = id >= 0 ? id : v->unk;
        /* A byte the vocabulary was never given is dropped, as Hugging Face's does. */
        if (id >= 0 && !merge_work_push(&job->work, id)) {
            return no_memory(job);
        }
    }
    return merge_apply(&job->t->merges, &job->work, job->out) ? PHID_OK : no_memory(job);
}

/* The bytes at the start of `text` that are well-formed UTF-8, or those that are not. */
static size_t run_size(struct str text, bool *ret_valid)
{
    uint32_t code = 0;
    *ret_valid = utf8_decode(text, &code) > 0;
    size_t size = 0;
    while (size < text.size) {
        size_t n = utf8_decode((struct str){text.data + size, text.size - size}, &code);
        if ((n > 0) != *ret_valid) {
            break;
        }
        size += n == 0 ? 1 : n;
    }
    return size;
}

static enum phid_status encode_bpe(struct job *job, struct str text)
{
    while (text.size > 0) {
        bool valid = false;
        struct str run = {.data = text.data, .size = run_size(text, &valid)};
        for (size_t start = 0; start < run.size;) {
            size_t end = run.size;
            enum phid_status status =
                valid ? pretoken_next(job->scan, run, start, &end, job->err) : PHID_OK;
            if (status == PHID_OK) {
                status = encode_piece(job, (struct str){run.data + start, end - start});
            }
            if (status != PHID_OK) {
                return status;
            }
            start = end;
        }
        text.data += run.size;
        text.size -= run.size;
    }
    return PHID_OK;
}

/* White space at the end of `text`, in bytes. */
static size_t space_suffix(struct str text)
{
    size_t kept = 0;
    for (size_t at = 0; at < text.size;) {
        size_t space = space_prefix((struct str){text.data + at, text.size - at});
        at += space;
        if (at < text.size) {
            uint32_t code = 0;
            size_t n = utf8_decode((struct str){text.data + at, text.size - at}, &code);
            at += n == 0 ? 1 : n;
            kept = at;
        }
    }
    return text.size - kept;
}

static enum phid_status encode_ordinary(struct job *job, size_t start, size_t end, bool strip_right)
{
    struct str text = {.data = job->text.data + start, .size = end - start};
    if (strip_right) {
        text.size -= space_suffix(text);
    }
    if (text.size == 0) {
        return PHID_OK;
    }
    return job->t->pretokenizer == NULL ? encode_spm(job, text) : encode_bpe(job, text);
}

/* Cuts the text at its special tokens, leftmost and longest first. */
static enum phid_status encode_text(struct job *job)
{
    const struct tokenizer *t = job->t;
    size_t start = 0; /* of the ordinary text not encoded yet */
    size_t stretch = 0;
    enum phid_status status = PHID_OK;
    for (size_t at = 0; at < job->text.size;) {
        while (job->stretches[stretch].end <= at) {
            stretch++;
        }
        size_t trusted = job->stretches[stretch].trusted ? job->stretches[stretch].end - at : 0;
        struct str rest = {.data = job->text.data + at, .size = job->text.size - at};
        const struct special *s = special_match(&t->specials, &t->vocab, rest, trusted);
        if (s == NULL) {
            at++;
            continue;
        }
        if ((status = encode_ordinary(job, start, at, s->strip_left)) != PHID_OK) {
            return status;
        }
        if (!tokens_push(job->out, s->id)) {
            return no_memory(job);
        }
        at += t->vocab.texts[s->id].size;
        if (s->strip_right) {
            at += space_prefix((struct str){job->text.data + at, job->text.size - at});
        }
        start = at;
    }
    return encode_ordinary(job, start, job->text.size, false);
}

/* The begin token goes first unless the text has it there already. */
static enum phid_status put_bos(struct job *job, size_t first)
{
    int32_t bos = job->t->vocab.bos;
    if (bos < 0 || (job->out->count > first && job->out->ids[first] == bos)) {
        return PHID_OK;
    }
    if (!tokens_push(job->out, bos)) {
        return no_memory(job);
    }
    int32_t *ids = job->out->ids + first;
    memmove(ids + 1, ids, (job->out->count - first - 1) * sizeof(*ids));
    ids[0] = bos;
    return PHID_OK;
}

enum phid_status tokenizer_encode(const struct tokenizer *t, const struct text_span *spans,
                                  size_t span_count, bool add_bos, struct tokens *ids,
                                  struct phid_error *err)
{
    struct job job = {.t = t, .out = ids, .err = err};
    size_t first = ids->count;
    enum phid_status status = join_spans(&job, spans, span_count);
    if (status != PHID_OK) {
        goto done;
    }
    if (t->pretokenizer != NULL) {
        job.scan = pretoken_scan_new(t->pretokenizer);
        job.word = malloc(2 * t->vocab.max_ordinary_bytes + UTF8_MAX_BYTES);
        if (job.scan == NULL || job.word == NULL) {
            status = no_memory(&job);
            goto done;
        }
    }
    status = encode_text(&job);
    if (status == PHID_OK && add_bos) {
        status = put_bos(&job, first);
    }

done:
    if (status != PHID_OK) {
        ids->count = first;
    }
    merge_work_fini(&job.work);
    pretoken_scan_free(job.scan);
    free(job.word);
    free(job.joined);
    free(job.stretches);
    return status;
}

enum phid_status tokenizer_encode_text(const struct tokenizer *t, struct str text, bool trusted,
                                       bool add_bos, struct tokens *ids, struct phid_error *err)
{
    struct text_span span = {.text = text, .trusted = trusted};
    return tokenizer_encode(t, &span, 1, add_bos, ids, err);
}
