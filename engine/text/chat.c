/* The templates phid knows, and how to tell from a file's Jinja source which of them it is. */
#include "engine/text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/chat_style.h"

#define SMOLLM_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN2_SYSTEM  "You are a helpful assistant"
#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

static const struct block_style phi3 = {
    .begin = "",
    .before_role = "<|",
    .after_role = "|>\n",
    .after_content = "<|end|>\n",
    .generation = "<|assistant|>\n",
    .otherwise = "<|endoftext|>",
    .tool_role = "user",
    .skip_empty_system = true,
};

static const struct block_style phi4 = {
    .begin = "",
    .before_role = "<|im_start|>",
    .after_role = "<|im_sep|>",
    .after_content = "<|im_end|>",
    .generation = "<|im_start|>assistant<|im_sep|>",
    .otherwise = "",
    .tool_role = "user",
};

static const struct block_style phi4_mini = {
    .begin = "",
    .before_role = "<|",
    .after_role = "|>",
    .after_content = "<|end|>",
    .generation = "<|assistant|>",
    .otherwise = "<|endoftext|>",
    .tool_role = "tool",
};

#define CHATML                                                                                     \
    .begin = "", .before_role = "<|im_start|>", .after_role = "\n",                                \
    .after_content = "<|im_end|>\n", .generation = "<|im_start|>assistant\n", .otherwise = ""

static const struct block_style chatml = {CHATML, .tool_role = "tool"};
static const struct block_style smollm2 = {CHATML, .tool_role = "tool",
                                           .default_system = SMOLLM_SYSTEM};
static const struct block_style qwen2_plain = {CHATML, .tool_role = "tool",
                                               .default_system = QWEN2_SYSTEM};
static const struct block_style qwen2 = {CHATML, .tool_role = "tool",
                                         .default_system = QWEN2_SYSTEM "."};
static const struct block_style qwen25 = {CHATML, .tool_role = "user",
                                          .default_system = QWEN25_SYSTEM};

#define LLAMA3                                                                                     \
    .begin = "<|begin_of_text|>", .before_role = "<|start_header_id|>",                            \
    .after_role = "<|end_header_id|>\n\n", .after_content = "<|eot_id|>",                          \
    .generation = "<|start_header_id|>assistant<|end_header_id|>\n\n", .otherwise = "",            \
    .trim = true

static const struct block_style llama3 = {LLAMA3, .tool_role = "tool"};

/* The published template puts today's date here where it can. A prompt that changes at midnight
 * could not be repeated, so it is the date the template falls back to. */
static const struct block_style llama31 = {
    LLAMA3,
    .tool_role = "ipython",
    .system_preamble = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
    .default_system = "",
};

static const struct block_style zephyr = {
    .begin = "",
    .before_role = "<|",
    .after_role = "|>\n",
    .after_content = "</s>\n",
    .generation = "<|assistant|>\n",
    .otherwise = "",
    .tool_role = "user",
};

static const struct turn_style llama2 = {
    .begin = "",
    .before_user = "<s>[INST] ",
    .after_user = " [/INST]",
    .before_answer = " ",
    .after_answer = " </s>",
    .system = SYSTEM_TAGGED,
    .trim_user = true,
    .trim_answer = true,
};

static const struct turn_style mistral_01 = {
    .begin = "<s>",
    .before_user = "[INST] ",
    .after_user = " [/INST]",
    .before_answer = "",
    .after_answer = "</s> ",
    .system = SYSTEM_FIRST_USER,
};

static const struct turn_style mistral_02 = {
    .begin = "<s>",
    .before_user = "[INST] ",
    .after_user = " [/INST]",
    .before_answer = "",
    .after_answer = "</s>",
    .system = SYSTEM_FIRST_USER,
};

static const struct turn_style mistral_v1 = {
    .begin = "<s>",
    .before_user = " [INST] ",
    .after_user = " [/INST]",
    .before_answer = " ",
    .after_answer = "</s>",
    .system = SYSTEM_FIRST_USER,
};

static const struct turn_style mistral_v3 = {
    .begin = "<s>",
    .before_user = "[INST] ",
    .after_user = "[/INST]",
    .before_answer = " ",
    .after_answer = "</s>",
    .system = SYSTEM_LAST_USER,
    .trim_answer = true,
};

static const struct turn_style mistral_tekken = {
    .begin = "<s>",
    .before_user = "[INST]",
    .after_user = "[/INST]",
    .before_answer = "",
    .after_answer = "</s>",
    .system = SYSTEM_LAST_USER,
};

static bool has(const char *source, const char *part)
{
    return strstr(source, part) != NULL;
}

/* Words a template says of itself: a system message of its own, or one for models that think aloud.
 * Rendering it without them would be another prompt than its authors trained with. */
static bool has_own_words(const char *source)
{
    const char *set = strstr(source, "set system_message = '");
    bool default_system = set != NULL && set[strlen("set system_message = '")] != '\'';
    return has(source, "You are ") || has(source, "Your name is ") || has(source, "think") ||
           (default_system && !has(source, "false == true"));
}

/* Whether contents are put in as they are. */
static bool is_verbatim(const char *source)
{
    return !has(source, "trim") && !has(source, "strip(");
}

static bool is_chatml(const char *source)
{
    return has(source, "<|im_start|>") && has(source, "<|im_end|>") && !has(source, "<|im_sep|>") &&
           !has(source, "<end_of_utterance>") && !has(source, "think") && is_verbatim(source);
}

static bool is_smollm2(const char *source)
{
    return is_chatml(source) && has(source, "system\n" SMOLLM_SYSTEM "<|im_end|>");
}

static bool is_qwen2_plain(const char *source)
{
    return is_chatml(source) && has(source, "system\n" QWEN2_SYSTEM "<|im_end|>");
}

static bool is_qwen2(const char *source)
{
    return is_chatml(source) && has(source, "system\n" QWEN2_SYSTEM ".<|im_end|>");
}

static bool is_qwen25(const char *source)
{
    return is_chatml(source) && has(source, QWEN25_SYSTEM);
}

static bool is_plain_chatml(const char *source)
{
    return is_chatml(source) && !has_own_words(source);
}

static bool is_phi4(const char *source)
{
    return has(source, "<|im_start|>") && has(source, "<|im_sep|>") && is_verbatim(source) &&
           !has_own_words(source);
}

/* `<|user|>`, a newline, the content, `<|end|>`: Phi-3 of any size, 3.5, and the first Phi-3-mini
 * template, in which the user's turn opens the answer as well. */
static bool is_phi3(const char *source)
{
    return has(source, "<|end|>") && has(source, "<|assistant|>") && is_verbatim(source) &&
           !has_own_words(source) &&
           (has(source, "<|user|>\n") || has(source, "<|user|>' + '\n'") ||
            has(source, "'|>\n' + message") || has(source, "'|>' + '\n' + message"));
}

static bool is_phi4_mini(const char *source)
{
    return has(source, "<|end|>") && has(source, "<|assistant|>") && is_verbatim(source) &&
           !has_own_words(source) &&
           (has(source, "'|>' + message['content']") ||
            has(source, "<|user|>' + message['content']"));
}

static bool is_zephyr(const char *source)
{
    return has(source, "<|user|>\n") && has(source, "<|assistant|>") && has(source, "eos_token") &&
           !has(source, "<|end|>") && !has(source, "[INST]") && !has(source, "<|im_start|>") &&
           is_verbatim(source) && !has_own_words(source);
}

static bool is_llama3_header(const char *source)
{
    return has(source, "<|start_header_id|>") && has(source, "<|end_header_id|>") &&
           has(source, "<|eot_id|>") && has(source, "trim") && !has_own_words(source);
}

static bool is_llama31(const char *source)
{
    return is_llama3_header(source) && has(source, "Cutting Knowledge Date: December 2023");
}

static bool is_llama3(const char *source)
{
    return is_llama3_header(source) && !has(source, "Cutting Knowledge Date");
}

static bool is_llama2(const char *source)
{
    return has(source, "[INST]") && has(source, "<<SYS>>\n") &&
           (has(source, "content.strip()") || has(source, "content | trim")) &&
           (!has_own_words(source) || has(source, "false == true")) && !has(source, "think");
}

static bool is_mistral(const char *source)
{
    return has(source, "[INST]") && !has(source, "<<SYS>>") && !has(source, "[SYSTEM_PROMPT]") &&
           !has_own_words(source);
}

static bool is_mistral_v1(const char *source)
{
    return is_mistral(source) && has(source, "' [INST] ' +") && has(source, "+ ' [/INST]'");
}

static bool is_mistral_01(const char *source)
{
    return is_mistral(source) && has(source, "'[INST] ' +") && has(source, "+ ' [/INST]'") &&
           has(source, "eos_token + ' '");
}

static bool is_mistral_02(const char *source)
{
    return is_mistral(source) && has(source, "'[INST] ' +") && has(source, "+ ' [/INST]'") &&
           !has(source, "eos_token + ' '");
}

static bool is_mistral_v3(const char *source)
{
    return is_mistral(source) && has(source, "'[INST] ' +") && has(source, "+ '[/INST]'");
}

static bool is_mistral_tekken(const char *source)
{
    return is_mistral(source) && has(source, "'[INST]' +") && has(source, "+ '[/INST]'");
}

static const struct chat_template templates[] = {
    {"phi-3", &phi3, NULL, is_phi3},
    {"phi-4", &phi4, NULL, is_phi4},
    {"phi-4-mini", &phi4_mini, NULL, is_phi4_mini},
    {"smollm2", &smollm2, NULL, is_smollm2},
    {"chatml", &chatml, NULL, is_plain_chatml},
    {"qwen2", &qwen2, NULL, is_qwen2},
    {"qwen1.5", &qwen2_plain, NULL, is_qwen2_plain},
    {"qwen2.5", &qwen25, NULL, is_qwen25},
    {"llama-2", NULL, &llama2, is_llama2},
    {"llama-3", &llama3, NULL, is_llama3},
    {"llama-3.1", &llama31, NULL, is_llama31},
    {"mistral-v0.1", NULL, &mistral_01, is_mistral_01},
    {"mistral-v0.2", NULL, &mistral_02, is_mistral_02},
    {"mistral-v1", NULL, &mistral_v1, is_mistral_v1},
    {"mistral-v3", NULL, &mistral_v3, is_mistral_v3},
    {"mistral-v3-tekken", NULL, &mistral_tekken, is_mistral_tekken},
    {"zephyr", &zephyr, NULL, is_zephyr},
};

#define TEMPLATE_COUNT (sizeof(templates) / sizeof(templates[0]))

/* The source as the recognisers see it: `\n` in a string is a newline, quotation marks are single,
 * runs of spaces are one. Heap, NUL-terminated. */
static char *normalise(struct str source)
{
    char *out = malloc(source.size + 1);
    if (out == NULL) {
        return NULL;
    }
    size_t size = 0;
    for (size_t i = 0; i < source.size; i++) {
        char c = source.data[i];
        if (c == '\\' && i + 1 < source.size && source.data[i + 1] == 'n') {
            c = '\n';
            i++;
        } else if (c == '"') {
            c = '\'';
        } else if (c == 0) {
            c = ' ';
        }
        if (c != ' ' || size == 0 || out[size - 1] != ' ') {
            out[size++] = c;
        }
    }
    out[size] = 0;
    return out;
}

static enum phid_status fail_unknown(const char *what, struct phid_error *err)
{
    struct buf names;
    buf_init(&names, PHID_ERROR_MESSAGE_MAX);
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        buf_printf(&names, "%s%s", i == 0 ? "" : ", ", templates[i].name);
    }
    enum phid_status status =
        phid_fail(err, PHID_ERR_UNSUPPORTED,
                  "%s; known are %s; model.template names one, or none to do without", what,
                  names.data != NULL ? names.data : "none");
    buf_fini(&names);
    return status;
}

static enum phid_status recognise(const struct gguf_file *file, const struct chat_template **ret,
                                  struct phid_error *err)
{
    struct str source = {0};
    if (gguf_find(file, STR("tokenizer.chat_template")) != NULL) {
        enum phid_status status = gguf_get_str(file, "tokenizer.chat_template", &source, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    if (source.size == 0) {
        *ret = NULL;
        return PHID_OK;
    }
    char *normal = normalise(source);
    if (normal == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory to recognise the chat template");
    }
    const struct chat_template *found = NULL;
    for (size_t i = 0; i < TEMPLATE_COUNT && found == NULL; i++) {
        found = templates[i].recognise(normal) ? &templates[i] : NULL;
    }
    free(normal);
    if (found == NULL) {
        return fail_unknown("tokenizer.chat_template is none of the known chat templates", err);
    }
    *ret = found;
    return PHID_OK;
}

enum phid_status chat_template_find(const struct gguf_file *file, struct str name,
                                    const struct chat_template **ret, struct phid_error *err)
{
    if (str_equal(name, STR("none"))) {
        *ret = NULL;
        return PHID_OK;
    }
    if (str_equal(name, STR("auto"))) {
        return recognise(file, ret, err);
    }
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        if (str_equal_c(name, templates[i].name)) {
            *ret = &templates[i];
            return PHID_OK;
        }
    }
    char what[128] = "unknown chat template";
    if (name.size <= 64 && utf8_valid(name)) {
        snprintf(what, sizeof(what), "unknown chat template \"%.*s\"", (int)name.size, name.data);
    }
    return fail_unknown(what, err);
}

const char *chat_template_name(const struct chat_template *t)
{
    return t->name;
}

const char *chat_template_name_at(size_t index)
{
    return index < TEMPLATE_COUNT ? templates[index].name : NULL;
}
