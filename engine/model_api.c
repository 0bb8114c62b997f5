/* The public model handle: opening a file, and everything that needs no engine. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/buf.h"
#include "engine/text/detok.h"

#define TEXT_MAX ((size_t)1 << 30) /* of a detokenized list */

static enum phid_status no_memory(struct phid_error *err)
{
    return phid_fail(err, PHID_ERR_MEMORY, "no memory for a model");
}

/* A hyperparameter of a file whose tensors are not looked at; 0 when it does not say. */
static size_t read_size(const struct phid_model *m, const char *name)
{
    char key[128];
    uint64_t value = 0;
    snprintf(key, sizeof(key), "%s.%s", m->architecture, name);
    return gguf_get_u64(m->file, key, &value, NULL) == PHID_OK && value <= SIZE_MAX ? (size_t)value
                                                                                    : 0;
}

static enum phid_status copy_string(const struct phid_model *m, const char *key, char **ret,
                                    struct phid_error *err)
{
    struct str value = {.data = "", .size = 0};
    gguf_get_str(m->file, key, &value, NULL);
    *ret = str_dup(value);
    return *ret != NULL ? PHID_OK : no_memory(err);
}

static uint64_t count_parameters(const struct gguf_file *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        sum += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return sum;
}

static enum phid_status find_end_tokens(struct phid_model *m, struct phid_error *err)
{
    size_t vocab_size = tokenizer_vocab_size(m->tokenizer);
    for (size_t pass = 0; pass < 2; pass++) {
        size_t count = 0;
        for (size_t id = 0; id < vocab_size; id++) {
            if (!tokenizer_is_end(m->tokenizer, (int32_t)id)) {
                continue;
            }
            if (pass == 1) {
                m->end_ids[count] = (int32_t)id;
            }
            count++;
        }
        if (pass == 0) {
            m->end_ids = calloc(count + 1, sizeof(*m->end_ids));
            if (m->end_ids == NULL) {
                return no_memory(err);
            }
        }
        m->end_count = count;
    }
    return PHID_OK;
}

static enum phid_status describe(struct phid_model *m, struct phid_error *err)
{
    enum phid_status status = copy_string(m, "general.architecture", &m->architecture, err);
    if (status != PHID_OK) {
        return status;
    }
    status = copy_string(m, "general.name", &m->name, err);
    if (status != PHID_OK) {
        return status;
    }
    const struct model *w = m->model;
    m->info = (struct phid_model_info){
        .architecture = m->architecture,
        .name = m->name,
        .template_name = m->chat != NULL ? chat_template_name(m->chat) : NULL,
        .vocab_size = w != NULL ? w->block.n_vocab : tokenizer_vocab_size(m->tokenizer),
        .context_length = w != NULL ? w->context_length : read_size(m, "context_length"),
        .embedding_length = w != NULL ? w->block.n_embd : read_size(m, "embedding_length"),
        .layers = w != NULL ? w->block.n_layers : read_size(m, "block_count"),
        .parameters = w != NULL ? w->parameter_count : count_parameters(m->file),
        .file_bytes = gguf_file_bytes(m->file),
        .bos = tokenizer_bos(m->tokenizer),
        .eos = tokenizer_eos(m->tokenizer),
        .has_weights = w != NULL,
    };
    return PHID_OK;
}

enum phid_status phid_model_open(const char *path, const struct phid_model_options *options,
                                 struct phid_model **ret_model, struct phid_error *err)
{
    const char *template_name =
        options != NULL && options->template_name != NULL ? options->template_name : "auto";
    struct phid_model *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return no_memory(err);
    }
    enum phid_status status = gguf_open(path, &m->file, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = tokenizer_new(m->file, &m->tokenizer, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = chat_template_find(m->file, str_of(template_name), &m->chat, err);
    if (status != PHID_OK) {
        goto fail;
    }
    if (options == NULL || !options->vocab_only) {
        status = model_load(m->file, &m->model, err);
        if (status != PHID_OK) {
            goto fail;
        }
    }
    status = find_end_tokens(m, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = describe(m, err);
    if (status != PHID_OK) {
        goto fail;
    }
    *ret_model = m;
    return PHID_OK;
fail:
    phid_model_close(m);
    return status;
}

void phid_model_close(struct phid_model *m)
{
    if (m == NULL) {
        return;
    }
    model_free(m->model);
    tokenizer_free(m->tokenizer);
    gguf_close(m->file);
    free(m->end_ids);
    free(m->architecture);
    free(m->name);
    free(m);
}

const struct phid_model_info *phid_model_info(const struct phid_model *model)
{
    return &model->info;
}

enum phid_status phid_model_weight_bytes(const struct phid_model *model, uint64_t *ret_bytes,
                                         struct phid_error *err)
{
    size_t bytes = 0;
    enum phid_status status = PHID_OK;
    if (model->model != NULL) {
        status = backend_cpu()->weight_bytes(&model->model->block, &bytes, err);
    }
    if (status == PHID_OK) {
        *ret_bytes = bytes;
    }
    return status;
}

const char *phid_template_name_at(size_t index)
{
    return chat_template_name_at(index);
}

static enum phid_status encode(const struct phid_model *model, const struct text_span *spans,
                               size_t count, bool bos, int32_t **ret_ids, size_t *ret_count,
                               struct phid_error *err)
{
    struct tokens ids = {0};
    enum phid_status status = tokenizer_encode(model->tokenizer, spans, count, bos, &ids, err);
    if (status != PHID_OK || ids.count == 0) {
        tokens_fini(&ids);
    }
    if (status == PHID_OK) {
        *ret_ids = ids.ids;
        *ret_count = ids.count;
    }
    return status;
}

enum phid_status phid_tokenize(const struct phid_model *model, const char *text, size_t size,
                               bool special, bool bos, int32_t **ret_ids, size_t *ret_count,
                               struct phid_error *err)
{
    struct text_span span = {.text = {.data = size > 0 ? text : "", .size = size},
                             .trusted = special};
    return encode(model, &span, 1, bos, ret_ids, ret_count, err);
}

bool phid_model_adds_bos(const struct phid_model *model)
{
    return tokenizer_adds_bos(model->tokenizer);
}

enum phid_status phid_detokenize(const struct phid_model *model, const int32_t *ids, size_t count,
                                 bool special, char **ret_text, size_t *ret_size,
                                 struct phid_error *err)
{
    size_t vocab_size = tokenizer_vocab_size(model->tokenizer);
    struct buf text;
    buf_init(&text, TEXT_MAX);
    struct detok detok;
    detok_init(&detok, model->tokenizer, true, special);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= vocab_size) {
            buf_fini(&text);
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "token %d is not in the vocabulary of %zu tokens", (int)ids[i],
                             vocab_size);
        }
        detok_push(&detok, ids[i], &text);
    }
    detok_finish(&detok, &text);
    enum phid_status status = buf_take(&text, ret_text, ret_size, err);
    if (status != PHID_OK) {
        buf_fini(&text);
    }
    return status;
}

void phid_token_bytes(const struct phid_model *model, int32_t id, const unsigned char **ret_bytes,
                      size_t *ret_size)
{
    struct str piece = tokenizer_piece(model->tokenizer, id, false);
    *ret_bytes = (const unsigned char *)piece.data;
    *ret_size = piece.size;
}

bool phid_token_is_control(const struct phid_model *model, int32_t id)
{
    return tokenizer_kind(model->tokenizer, id) == TOKEN_CONTROL;
}

static bool find_role(enum phid_role role, enum chat_role *ret)
{
    switch (role) {
    case PHID_ROLE_SYSTEM:
        *ret = CHAT_SYSTEM;
        return true;
    case PHID_ROLE_USER:
        *ret = CHAT_USER;
        return true;
    case PHID_ROLE_ASSISTANT:
        *ret = CHAT_ASSISTANT;
        return true;
    case PHID_ROLE_TOOL:
        *ret = CHAT_TOOL;
        return true;
    }
    return false;
}

enum phid_status phid_chat_tokens(const struct phid_model *model,
                                  const struct phid_message *messages, size_t count,
                                  int32_t **ret_ids, size_t *ret_count, struct phid_error *err)
{
    if (model->chat == NULL) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "this model has no chat template");
    }
    if (count == 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "messages", "there are no messages");
    }
    struct chat_message *chat = calloc(count, sizeof(*chat));
    if (chat == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu messages", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (!find_role(messages[i].role, &chat[i].role)) {
            free(chat);
            return phid_fail(err, PHID_ERR_ARGUMENT, "message %zu has an unknown role", i);
        }
        chat[i].content =
            (struct str){.data = messages[i].content_size > 0 ? messages[i].content : "",
                         .size = messages[i].content_size};
    }
    struct chat_prompt prompt = {0};
    enum phid_status status = chat_render(model->chat, chat, count, true, &prompt, err);
    if (status == PHID_OK) {
        status = encode(model, prompt.spans, prompt.count, tokenizer_adds_bos(model->tokenizer),
                        ret_ids, ret_count, err);
        chat_prompt_fini(&prompt);
    }
    free(chat);
    return status;
}
