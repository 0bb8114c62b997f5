#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "tests/bench/traffic.h"

/* Options as from a command line; the words must live on. */
static void read_options(struct options *o, int argc, char **argv)
{
    optind = 0;
    assert_int_equal(options_read(o, argc, argv), 0);
}
#define OPTIONS(o, ...)                                                                            \
    do {                                                                                           \
        char *words[] = {"load", "--url", "http://h:1", "--seed", "5", __VA_ARGS__, NULL};         \
        read_options(o, sizeof words / sizeof words[0] - 1, words);                                \
    } while (0)

static json_t *ask(struct traffic *t, struct conversation *c)
{
    struct buf body;
    buf_init(&body, TRAFFIC_BODY_MAX);
    traffic_ask(t, c, &body);
    json_t *parsed = json_loadb(body.data, body.size, 0, NULL);
    assert_non_null(parsed);
    buf_fini(&body);
    return parsed;
}

static void test_ids(void **state)
{
    struct options o;
    struct traffic t;
    struct conversation c;
    OPTIONS(&o, "--prompt-tokens", "100", "--spread", "0.5", "--ids", "7-12", "--answer-tokens",
            "9", "--extra", "{\"priority\": 3, \"user\": \"me\"}");
    assert_true(traffic_init(&t, &o, "m"));
    conversation_init(&c);
    size_t shortest = 1000, longest = 0;
    for (int i = 0; i < 200; i++) {
        json_t *body = ask(&t, &c);
        const json_t *ids = json_object_get(body, "prompt");
        size_t count = json_array_size(ids);
        shortest = count < shortest ? count : shortest;
        longest = count > longest ? count : longest;
        for (size_t k = 0; k < count; k++) {
            json_int_t id = json_integer_value(json_array_get(ids, k));
            assert_in_range(id, 7, 11);
        }
        assert_int_equal(json_integer_value(json_object_get(body, "priority")), 3);
        json_decref(body);
    }
    assert_in_range(shortest, 50, 60);
    assert_in_range(longest, 140, 150);
    traffic_fini(&t);
    conversation_fini(&c);
    options_fini(&o);
}

static void test_plain(void **state)
{
    struct options o;
    struct traffic t;
    struct conversation c;
    OPTIONS(&o, "--plain", "--endpoint", "chat");
    assert_true(traffic_init(&t, &o, "m"));
    conversation_init(&c);
    json_t *body = ask(&t, &c);
    assert_null(json_object_get(body, "min_tokens"));
    assert_null(json_object_get(body, "ignore_eos"));
    assert_int_equal(json_integer_value(json_object_get(body, "max_tokens")), 64);
    assert_int_equal(json_array_size(json_object_get(body, "messages")), 1);
    json_decref(body);
    traffic_fini(&t);
    conversation_fini(&c);
    options_fini(&o);
}

static void test_shared_prefix(void **state)
{
    struct options o;
    struct traffic t;
    struct conversation c;
    OPTIONS(&o, "--workload", "shared-prefix", "--prefix-tokens", "50", "--prompt-tokens", "10");
    assert_true(traffic_init(&t, &o, "m"));
    conversation_init(&c);
    json_t *first = ask(&t, &c), *second = ask(&t, &c);
    const json_t *a = json_object_get(first, "prompt"), *b = json_object_get(second, "prompt");
    assert_int_equal(json_array_size(a), 60);
    size_t same = 0;
    while (same < 60 && json_equal(json_array_get(a, same), json_array_get(b, same))) {
        same++;
    }
    assert_in_range(same, 50, 52);
    json_decref(first);
    json_decref(second);
    traffic_fini(&t);
    conversation_fini(&c);
    options_fini(&o);
}

/* Every question repeats what was said before, answers included. */
static void test_multi_turn(void **state)
{
    struct options o;
    struct traffic t;
    struct conversation c;
    OPTIONS(&o, "--workload", "multi-turn", "--endpoint", "chat", "--turns", "3");
    assert_true(traffic_init(&t, &o, "m"));
    conversation_init(&c);
    for (int round = 0; round < 2; round++) {
        for (size_t turn = 0; turn < 3; turn++) {
            json_t *body = ask(&t, &c);
            const json_t *messages = json_object_get(body, "messages");
            assert_int_equal(json_array_size(messages), 2 * turn + 1);
            if (turn > 0) {
                const json_t *answer = json_array_get(messages, 1);
                assert_string_equal(json_string_value(json_object_get(answer, "content")),
                                    "a \"b\"");
            }
            traffic_hear(&t, &c, STR("a \\\""));
            traffic_hear(&t, &c, STR("b\\\""));
            traffic_heard(&t, &c);
            assert_int_equal(traffic_continues(&t, &c), turn < 2);
            json_decref(body);
        }
    }
    traffic_fini(&t);
    conversation_fini(&c);
    options_fini(&o);
}

static void test_arrivals(void **state)
{
    struct options o;
    struct traffic t;
    OPTIONS(&o, "--rate", "20");
    assert_true(traffic_init(&t, &o, "m"));
    double sum = 0, squares = 0;
    for (int i = 0; i < 20000; i++) {
        double pause = traffic_pause(&t);
        assert_true(pause >= 0);
        sum += pause;
        squares += pause * pause;
    }
    /* An exponential distribution's deviation is its mean. */
    double mean = sum / 20000;
    assert_float_equal(mean, 0.05, 0.002);
    assert_float_equal(sqrt(squares / 20000 - mean * mean), 0.05, 0.003);
    traffic_fini(&t);
    options_fini(&o);
}

static void test_wrong_options(void **state)
{
    static char *const bad[][2] = {
        {"--rate", "0"},          {"--rate", "nan"},           {"--concurrency", "1.5"},
        {"--extra", "[1]"},       {"--header", "no colon"},    {"--ids", "9-3"},
        {"--workload", "random"}, {"--endpoint", "responses"}, {"--goodput", "ttft:x"},
        {"--requests", "-1"},     {"--spread", "2"},           {"--unknown", "1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct options o;
        char *words[] = {"load", "--url", "http://h", bad[i][0], bad[i][1], NULL};
        optind = 0;
        assert_int_equal(options_read(&o, 5, words), 3);
        options_fini(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),           cmocka_unit_test(test_plain),
        cmocka_unit_test(test_shared_prefix), cmocka_unit_test(test_multi_turn),
        cmocka_unit_test(test_arrivals),      cmocka_unit_test(test_wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
