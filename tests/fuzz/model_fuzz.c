/* Fuzz target: any bytes as a model: hyperparameters, tensors, tokenizer and chat template of what
 * the reader lets through. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/gguf/gguf.h"
#include "engine/model/model.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void use_tokenizer(const struct tokenizer *tokenizer)
{
    static const struct text_span spans[] = {
        {.text = {.data = "<|user|>\n", .size = 9}, .trusted = true},
        {.text = {.data = "Hello, \xe4\xb8\x96\xe7\x95\x8c! <|end|> \xff\xfe 123", .size = 30},
         .trusted = false},
        {.text = {.data = "<|end|>\n<|assistant|>\n", .size = 22}, .trusted = true},
    };
    struct tokens ids = {0};
    struct phid_error error;
    if (tokenizer_encode(tokenizer, spans, 3, true, &ids, &error) == PHID_OK) {
        for (size_t i = 0; i < ids.count; i++) {
            FUZZ_CHECK(ids.ids[i] >= 0 && (size_t)ids.ids[i] < tokenizer_vocab_size(tokenizer));
            fuzz_use(tokenizer_piece(tokenizer, ids.ids[i], true).size);
        }
    }
    tokens_fini(&ids);
    tokenizer_piece(tokenizer, -1, true);
    tokenizer_piece(tokenizer, INT32_MAX, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_file *file = NULL;
    struct phid_error error;
    if (gguf_open_memory(data, size, &file, &error) != PHID_OK) {
        return 0;
    }
    struct model *model = NULL;
    if (model_load(file, &model, &error) == PHID_OK) {
        fuzz_use(model->parameter_count);
        model_free(model);
    }
    struct tokenizer *tokenizer = NULL;
    if (tokenizer_new(file, &tokenizer, &error) == PHID_OK) {
        use_tokenizer(tokenizer);
        tokenizer_free(tokenizer);
    }
    const struct chat_template *template = NULL;
    if (chat_template_find(file, STR("auto"), &template, &error) == PHID_OK && template != NULL) {
        fuzz_use((uint64_t)(chat_template_name(template) != NULL));
    }
    gguf_close(file);
    return 0;
}
