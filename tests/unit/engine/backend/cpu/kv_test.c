/* Memory of KV pages: what is brought in ahead of its use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/backend/cpu/kv.h"

enum { PAGES = 24, HEADS = 8, LAYERS = 16, HEAD_DIM = 64 };

struct fixture {
    struct cpu_kv kv;
    struct pool *pool;
};

static void fixture_init(struct fixture *f)
{
    struct phid_error err;
    *f = (struct fixture){0};
    assert_true(cpu_kv_shape(&f->kv, BACKEND_KV_F16, HEAD_DIM, HEADS, LAYERS));
    assert_int_equal(
        cpu_kv_open(&f->kv, PAGES, (struct cpu_memory_policy){.huge_pages = true}, &err), PHID_OK);
    assert_int_equal(pool_new(2, &f->pool, &err), PHID_OK);
}

static void fixture_fini(struct fixture *f)
{
    pool_free(f->pool);
    cpu_kv_close(&f->kv);
}

/* Of the pages [first, last), how much of their memory is resident, in KV pages. */
static double resident(const struct fixture *f, size_t first, size_t last)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = f->kv.page_bytes;
    unsigned char *from = f->kv.memory.data + first * bytes;
    size_t count = (last - first) * bytes / page, here = 0;
    unsigned char *in = malloc(count);
    assert_non_null(in);
    assert_int_equal(mincore(from, count * page, in), 0);
    for (size_t i = 0; i < count; i++) {
        here += in[i] & 1;
    }
    free(in);
    return (double)here * (double)page / (double)bytes;
}

static bool system_can(void)
{
    struct cpu_memory memory;
    struct phid_error err;
    assert_int_equal(cpu_memory_open(4096, "a try", (struct cpu_memory_policy){0}, &memory, &err),
                     PHID_OK);
    bool can = cpu_memory_warm(&memory, 0);
    cpu_memory_close(&memory);
    return can;
}

static void test_kv_warm_brings_pages_in(void **state)
{
    struct fixture f;
    fixture_init(&f);
    assert_true(resident(&f, 0, PAGES) == 0);
    size_t calls = 1;
    while (cpu_kv_warm(&f.kv, f.pool, 0, 4, 64)) {
        calls++;
    }
    if (!system_can()) { /* then it says at once that there is nothing to wait for */
        assert_int_equal(calls, 1);
        fixture_fini(&f);
        return;
    }
    assert_in_range(calls, 2, 4); /* a page a call or two */
    assert_true(resident(&f, 0, 4) == 4);
    double beyond = (double)CPU_MEMORY_PIECE / (double)f.kv.page_bytes;
    assert_true(resident(&f, 4, PAGES) <= beyond);
    assert_false(cpu_kv_warm(&f.kv, f.pool, 2, 4, 64));             /* all there */
    assert_false(cpu_kv_warm(&f.kv, f.pool, PAGES, PAGES + 4, 64)); /* no such pages */
    assert_true(resident(&f, 0, PAGES) <= 4 + beyond);
    while (cpu_kv_warm(&f.kv, f.pool, PAGES - 2, PAGES + 9, SIZE_MAX / f.kv.page_bytes)) {
    }
    assert_true(resident(&f, PAGES - 2, PAGES) == 2);
    assert_true(resident(&f, 5, PAGES - 3) <= beyond); /* what was passed over is not needed */
    fixture_fini(&f);
}

static void test_kv_warm_changes_nothing(void **state)
{
    struct fixture f;
    fixture_init(&f);
    unsigned char *data = f.kv.memory.data;
    memset(data, 0x5a, f.kv.page_bytes);
    memset(data + 3 * f.kv.page_bytes, 0xa5, f.kv.page_bytes);
    while (cpu_kv_warm(&f.kv, f.pool, 0, PAGES, 64)) {
    }
    for (size_t i = 0; i < f.kv.page_bytes; i++) {
        assert_int_equal(data[i], 0x5a);
        assert_int_equal(data[3 * f.kv.page_bytes + i], 0xa5);
        assert_int_equal(data[(PAGES - 1) * f.kv.page_bytes + i], 0);
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_warm_brings_pages_in),
        cmocka_unit_test(test_kv_warm_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
