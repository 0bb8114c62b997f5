/* Memory nodes: the kernel's lists of them, and memory spread over them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/backend/cpu/memory.h"
#include "engine/backend/cpu/nodes.h"

static void test_nodes_parse(void **state)
{
    (void)state;
    struct cpu_nodes nodes;
    assert_true(cpu_nodes_parse(STR("0\n"), &nodes));
    assert_int_equal(nodes.count, 1);
    assert_int_equal(nodes.mask[0], 1);
    assert_true(cpu_nodes_parse(STR("0-1,4,3-4,1023"), &nodes));
    assert_int_equal(nodes.count, 5);
    assert_int_equal(nodes.mask[0], 0x1b);
    assert_true(nodes.mask[CPU_NODES_MAX / CPU_NODE_BITS - 1] == 1UL << (CPU_NODE_BITS - 1));
}

static void test_nodes_parse_no_list(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",     "\n",   ",",     "0,",
                                        "-1",   "1-0",  "0-",    "0 1",
                                        "1024", "0-2-", "0\n\n", "99999999999999999999",
                                        "0x1",  "0,,1", "0-1024"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cpu_nodes nodes = {.count = 77};
        if (cpu_nodes_parse(str_of(wrong[i]), &nodes) || nodes.count != 77) {
            fail_msg("\"%s\" is no list of nodes", wrong[i]);
        }
    }
}

static void test_nodes_detect(void **state)
{
    (void)state;
    struct cpu_nodes nodes = cpu_nodes_detect();
    size_t bits = 0;
    for (size_t i = 0; i < CPU_NODES_MAX; i++) {
        bits += nodes.mask[i / CPU_NODE_BITS] >> i % CPU_NODE_BITS & 1;
    }
    assert_in_range(nodes.count, 1, CPU_NODES_MAX);
    assert_int_equal(bits, nodes.count);
}

/* What the system says of memory; -1: it has no policies. */
static int policy_of(void *data)
{
    enum { OF_ADDRESS = 2 };
    int mode = -1;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0UL, data, (unsigned long)OF_ADDRESS) == 0 ? mode
                                                                                              : -1;
}

static void test_nodes_interleave(void **state)
{
    (void)state;
    enum { INTERLEAVE = 3, BYTES = 1 << 20 };
    struct cpu_nodes nodes = cpu_nodes_detect();
    void *data = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(data, MAP_FAILED);
    if (policy_of(data) < 0) {
        print_message("the system has no memory policies (%s)\n", strerror(errno));
        munmap(data, BYTES);
        skip();
    }
    assert_int_equal(policy_of(data), 0);
    assert_true(cpu_nodes_interleave(&nodes, data, BYTES));
    assert_int_equal(policy_of(data), INTERLEAVE);
    memset(data, 1, BYTES);
    assert_int_equal(munmap(data, BYTES), 0);
}

/* One node needs no policy; several get one, unless local memory is asked for. */
static void test_memory_policy(void **state)
{
    (void)state;
    struct phid_error err;
    for (int interleave = 0; interleave < 2; interleave++) {
        struct cpu_memory_policy policy = {.interleave = interleave != 0};
        struct cpu_memory memory;
        assert_int_equal(cpu_memory_open(1 << 20, "a test", policy, &memory, &err), PHID_OK);
        int mode = policy_of(memory.data);
        cpu_memory_close(&memory);
        if (mode < 0) {
            skip();
        }
        assert_int_equal(mode, interleave != 0 && cpu_nodes_detect().count > 1 ? 3 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_parse),   cmocka_unit_test(test_nodes_parse_no_list),
        cmocka_unit_test(test_nodes_detect),  cmocka_unit_test(test_nodes_interleave),
        cmocka_unit_test(test_memory_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
