/* Chat templates: recognised from their published source and rendered as Jinja2 renders it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/chat.h"
#include "tests/unit/engine/text/chat_vectors.h"
#include "tests/unit/engine/text/vocab_file.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct chat_message hello[] = {{CHAT_USER, {"Hello", 5}}};

static const struct chat_message talk[] = {
    {CHAT_SYSTEM, {"Be brief.", 9}},
    {CHAT_USER, {" Who are you?\n", 14}},
    {CHAT_ASSISTANT, {" I am. ", 7}},
    {CHAT_USER, {"Fine\xE3\x80\x80", 7}},
};

static enum phid_status find(const char *source, const char *name, const struct chat_template **ret,
                             struct phid_error *err)
{
    struct vocab_file f;
    vocab_file_init(&f);
    if (source != NULL) {
        vocab_file_str(&f, "tokenizer.chat_template", str_of(source));
    }
    struct gguf_file *file = vocab_file_open(&f);
    enum phid_status status = chat_template_find(file, str_of(name), ret, err);
    gguf_close(file);
    vocab_file_fini(&f);
    return status;
}

static const struct chat_template *by_name(const char *name)
{
    const struct chat_template *t = NULL;
    assert_int_equal(find(NULL, name, &t, NULL), PHID_OK);
    assert_string_equal(chat_template_name(t), name);
    return t;
}

static void check_render(const struct chat_template *t, const struct chat_message *messages,
                         size_t count, bool generate, const char *expected)
{
    struct chat_prompt prompt;
    struct phid_error err = {0};
    assert_int_equal(chat_render(t, messages, count, generate, &prompt, &err), PHID_OK);
    struct buf text;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < prompt.count; i++) {
        buf_append_str(&text, prompt.spans[i].text);
    }
    assert_string_equal(text.data, expected);
    buf_fini(&text);
    chat_prompt_fini(&prompt);
}

static void test_published_templates(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(chat_vectors); i++) {
        const struct chat_template *t = NULL;
        struct phid_error err = {0};
        if (find(chat_vectors[i].source, "auto", &t, &err) != PHID_OK) {
            fail_msg("%s: %s", chat_vectors[i].name, err.message);
        }
        assert_string_equal(chat_template_name(t), chat_vectors[i].name);
        check_render(t, hello, COUNT(hello), true, chat_vectors[i].renderings[0]);
        if (chat_vectors[i].renderings[1][0] != 0) {
            check_render(t, talk, COUNT(talk), true, chat_vectors[i].renderings[1]);
        }
    }
}

/* The source may write a newline as itself or as an escape, and strings with either mark. */
static void test_spelling_does_not_matter(void **state)
{
    (void)state;
    const struct chat_template *t = NULL;
    assert_int_equal(find("{% for m in messages %}{{\"<|user|>\" + \"\\n\" + x + \"<|end|>\\n"
                          "<|assistant|>\\n\"}}{% endfor %}",
                          "auto", &t, NULL),
                     PHID_OK);
    assert_string_equal(chat_template_name(t), "phi-3");
}

static void test_unknown_templates(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{{ messages[0]['content'] }}",
        "{% for m in messages %}{{ '<start_of_turn>' + m['role'] }}{% endfor %}",
        "<|im_start|>system\nYou are Zorg.<|im_end|>\n<|im_start|>user\n",
        "<|im_start|>user\n{{ m['content'] | trim }}<|im_end|>\n",
        "<|im_start|>assistant\n<think>\n\n</think><|im_end|>\n",
        "{{'<|im_start|>system<|im_sep|>You are Phi, a language model'}}<|im_end|>",
        "[SYSTEM_PROMPT] [INST] [/INST]",
        "<|start_header_id|>user<|end_header_id|>",
        "<|end|>",
        "{{ raise_exception('no') }}",
        "{% for a in range(1000000000) %}{% endfor %}",
    };
    for (size_t i = 0; i < COUNT(sources); i++) {
        const struct chat_template *t = NULL;
        struct phid_error err = {0};
        assert_int_equal(find(sources[i], "auto", &t, &err), PHID_ERR_UNSUPPORTED);
        assert_null(t);
        assert_non_null(strstr(err.message, "phi-3"));
        assert_non_null(strstr(err.message, "zephyr"));
    }
    const struct chat_template *t = NULL;
    struct phid_error err = {0};
    assert_int_equal(find(NULL, "phi-9", &t, &err), PHID_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "phi-9"));
}

static void test_none_and_absent(void **state)
{
    (void)state;
    const struct chat_template *t = by_name("phi-3");
    assert_int_equal(find(chat_vectors[0].source, "none", &t, NULL), PHID_OK);
    assert_null(t);
    t = by_name("phi-3");
    assert_int_equal(find(NULL, "auto", &t, NULL), PHID_OK);
    assert_null(t);
    t = by_name("phi-3");
    assert_int_equal(find("", "auto", &t, NULL), PHID_OK);
    assert_null(t);
}

static void test_names(void **state)
{
    (void)state;
    size_t count = 0;
    while (chat_template_name_at(count) != NULL) {
        by_name(chat_template_name_at(count));
        count++;
    }
    assert_true(count >= 12);
}

static void test_without_an_answer(void **state)
{
    (void)state;
    check_render(by_name("phi-3"), hello, 1, false, "<|user|>\nHello<|end|>\n<|endoftext|>");
    check_render(by_name("phi-4-mini"), hello, 1, false, "<|user|>Hello<|end|><|endoftext|>");
    check_render(by_name("chatml"), hello, 1, false, "<|im_start|>user\nHello<|im_end|>\n");
    check_render(by_name("llama-2"), hello, 1, false, "<s>[INST] Hello [/INST]");
}

static void test_empty_system_message(void **state)
{
    (void)state;
    static const struct chat_message m[] = {{CHAT_SYSTEM, {"", 0}}, {CHAT_USER, {"Hi", 2}}};
    check_render(by_name("phi-3"), m, 2, true, "<|user|>\nHi<|end|>\n<|assistant|>\n");
    check_render(by_name("smollm2"), m, 2, true,
                 "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                 "<|im_start|>assistant\n");
}

static void test_tool_messages_are_kept(void **state)
{
    (void)state;
    static const struct chat_message m[] = {{CHAT_USER, {"t?", 2}}, {CHAT_TOOL, {"21", 2}}};
    check_render(by_name("phi-3"), m, 2, true,
                 "<|user|>\nt\?<|end|>\n<|user|>\n21<|end|>\n<|assistant|>\n");
    check_render(by_name("chatml"), m, 2, true,
                 "<|im_start|>user\nt\?<|im_end|>\n<|im_start|>tool\n21<|im_end|>\n"
                 "<|im_start|>assistant\n");
    check_render(by_name("mistral-v3"), m, 2, true, "<s>[INST] t\?\n\n21[/INST]");
    check_render(
        by_name("llama-3.1"), m + 1, 1, true,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
        "December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>ipython"
        "<|end_header_id|>\n\n21<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

/* Orders of messages that templates with turns refuse: neighbours are merged, nothing is lost. */
static void test_turns_are_made_to_alternate(void **state)
{
    (void)state;
    static const struct chat_message m[] = {
        {CHAT_ASSISTANT, {"a ", 2}}, {CHAT_USER, {" b", 2}},     {CHAT_SYSTEM, {"S", 1}},
        {CHAT_USER, {"c", 1}},       {CHAT_ASSISTANT, {"d", 1}}, {CHAT_ASSISTANT, {"e", 1}},
        {CHAT_SYSTEM, {"T", 1}},
    };
    check_render(by_name("llama-2"), m, 7, true,
                 "<s>[INST] <<SYS>>\nS\n\nT\n<</SYS>>\n\n [/INST] a </s>"
                 "<s>[INST] b\n\nc [/INST] d\n\ne </s>");
    check_render(by_name("mistral-v1"), m, 7, true,
                 "<s> [INST] S\n\nT\n\n [/INST] a </s> [INST]  b\n\nc [/INST] d\n\ne</s>");
    check_render(by_name("mistral-v3"), m, 7, true,
                 "<s>[INST] [/INST] a</s>[INST] S\n\nT\n\n b\n\nc[/INST] d\n\ne</s>");
    /* System messages alone still make a turn. */
    check_render(by_name("mistral-v3"), m + 6, 1, true, "<s>[INST] T\n\n[/INST]");
    check_render(by_name("llama-2"), m + 6, 1, true, "<s>[INST] <<SYS>>\nT\n<</SYS>> [/INST]");
}

/* Every byte of every message arrives, in an untrusted span, in every template. */
static void test_contents_are_untrusted_and_complete(void **state)
{
    (void)state;
    static const struct chat_message m[] = {
        {CHAT_SYSTEM, {"<|sys|>", 7}},    {CHAT_USER, {"<|usr|>", 7}},
        {CHAT_USER, {"<|us2|>", 7}},      {CHAT_TOOL, {"<|tol|>", 7}},
        {CHAT_ASSISTANT, {"<|ast|>", 7}}, {CHAT_SYSTEM, {"<|sy2|>", 7}},
    };
    for (size_t n = 0; chat_template_name_at(n) != NULL; n++) {
        struct chat_prompt prompt;
        assert_int_equal(
            chat_render(by_name(chat_template_name_at(n)), m, COUNT(m), true, &prompt, NULL),
            PHID_OK);
        size_t found = 0;
        for (size_t i = 0; i < prompt.count; i++) {
            for (size_t k = 0; k < COUNT(m); k++) {
                bool same = str_equal(prompt.spans[i].text, m[k].content);
                assert_false(same && prompt.spans[i].trusted);
                found += same;
            }
            assert_true(prompt.spans[i].trusted || prompt.spans[i].text.size == 7);
        }
        assert_int_equal(found, COUNT(m));
        chat_prompt_fini(&prompt);
    }
}

static void test_bad_arguments(void **state)
{
    (void)state;
    struct chat_prompt prompt;
    struct phid_error err = {0};
    assert_int_equal(chat_render(by_name("phi-3"), hello, 0, true, &prompt, &err),
                     PHID_ERR_ARGUMENT);
    static const struct chat_message odd[] = {{(enum chat_role)9, {"x", 1}}};
    assert_int_equal(chat_render(by_name("phi-3"), odd, 1, true, &prompt, &err),
                     PHID_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_templates),
        cmocka_unit_test(test_spelling_does_not_matter),
        cmocka_unit_test(test_unknown_templates),
        cmocka_unit_test(test_none_and_absent),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_without_an_answer),
        cmocka_unit_test(test_empty_system_message),
        cmocka_unit_test(test_tool_messages_are_kept),
        cmocka_unit_test(test_turns_are_made_to_alternate),
        cmocka_unit_test(test_contents_are_untrusted_and_complete),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
