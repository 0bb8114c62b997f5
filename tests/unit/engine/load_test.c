/* Loading a real file: at once, lazily, and with the file cut off or written to in the meantime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/phid.h"

static const char *source; /* the tiny model */
static char path[] = "/tmp/phid-load-XXXXXX";
static const int32_t prompt[] = {1, 20, 300, 41, 77, 500};
enum { COUNT = sizeof(prompt) / sizeof(prompt[0]) };

static void write_copy(void)
{
    static unsigned char bytes[1 << 16];
    FILE *from = fopen(source, "rb");
    FILE *to = fopen(path, "wb");
    assert_non_null(from);
    assert_non_null(to);
    for (size_t got; (got = fread(bytes, 1, sizeof(bytes), from)) > 0;) {
        assert_int_equal(fwrite(bytes, 1, got, to), got);
    }
    fclose(from);
    assert_int_equal(fclose(to), 0);
}

static struct phid_model *open_copy(void)
{
    struct phid_model *model;
    struct phid_error err;
    write_copy();
    assert_int_equal(phid_model_open(path, NULL, &model, &err), PHID_OK);
    return model;
}

static float *logits_of(struct phid_engine *engine, size_t vocab)
{
    struct phid_error err;
    float *logits = calloc(COUNT * vocab, sizeof(*logits));
    assert_non_null(logits);
    assert_int_equal(phid_engine_logits(engine, prompt, COUNT, true, logits, &err), PHID_OK);
    return logits;
}

static void test_load_lazily_same_logits(void **state)
{
    (void)state;
    struct phid_model *model = open_copy();
    size_t vocab = phid_model_info(model)->vocab_size;
    struct phid_error err;
    float *logits[3];
    for (size_t i = 0; i < 3; i++) {
        struct phid_engine_options options = {.threads = 2, .lazy_load = i > 0};
        struct phid_engine *engine;
        bool loaded = false;
        assert_int_equal(phid_engine_new(model, &options, &engine, &err), PHID_OK);
        if (i == 1) {
            assert_int_equal(phid_engine_loaded(engine, 60000, &loaded, &err), PHID_OK);
            assert_true(loaded);
        }
        logits[i] = logits_of(engine, vocab);
        assert_int_equal(phid_engine_loaded(engine, 60000, &loaded, &err), PHID_OK);
        assert_true(loaded);
        phid_engine_free(engine);
    }
    for (size_t i = 1; i < 3; i++) {
        assert_memory_equal(logits[i], logits[0], COUNT * vocab * sizeof(float));
        free(logits[i]);
    }
    free(logits[0]);
    phid_model_close(model);
}

/* A file that is replaced is another one; ours stays. */
static void test_load_of_a_replaced_file(void **state)
{
    (void)state;
    struct phid_model *model = open_copy();
    struct phid_engine *engine;
    struct phid_error err;
    assert_int_equal(unlink(path), 0);
    FILE *other = fopen(path, "wb");
    assert_non_null(other);
    fclose(other);
    struct phid_engine_options options = {.threads = 1};
    assert_int_equal(phid_engine_new(model, &options, &engine, &err), PHID_OK);
    phid_engine_free(engine);
    phid_model_close(model);
}

static void cut_off(void)
{
    assert_int_equal(truncate(path, 100000), 0);
}

static void write_over(void)
{
    usleep(20000); /* a file's time of change may be that coarse */
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fputc('G', file), 'G');
    fclose(file);
}

static void test_load_of_a_changed_file(void **state)
{
    (void)state;
    void (*const changes[])(void) = {cut_off, write_over};
    for (size_t i = 0; i < 4; i++) {
        struct phid_model *model = open_copy();
        struct phid_engine *engine = NULL;
        struct phid_error err = {0};
        bool loaded = true;
        changes[i % 2]();
        struct phid_engine_options options = {.threads = 2, .lazy_load = i >= 2};
        enum phid_status status = phid_engine_new(model, &options, &engine, &err);
        if (i >= 2) {
            assert_int_equal(status, PHID_OK);
            status = phid_engine_loaded(engine, 60000, &loaded, &err);
            assert_false(loaded);
        }
        assert_int_equal(status, PHID_ERR_IO);
        assert_non_null(strstr(err.message, "changed or was cut off"));
        if (engine != NULL) {
            float *logits = calloc(phid_model_info(model)->vocab_size, sizeof(*logits));
            assert_int_equal(phid_engine_logits(engine, prompt, COUNT, false, logits, &err),
                             PHID_ERR_IO);
            free(logits);
        }
        phid_engine_free(engine);
        phid_model_close(model);
    }
}

static int make_copy(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_copy(void **state)
{
    (void)state;
    return unlink(path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_lazily_same_logits),
        cmocka_unit_test(test_load_of_a_replaced_file),
        cmocka_unit_test(test_load_of_a_changed_file),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: load_test tiny.gguf\n");
        return 2;
    }
    source = argv[1];
    return cmocka_run_group_tests(tests, make_copy, remove_copy);
}
