/* What the scheduler itself takes of a step: 64 sequences decode on a backend that computes
 * nothing. Prints one line for each number of sequences; fails only if something is wrong with the
 * answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

enum { MOST = 64, ANSWER = 400 };

static void measure(size_t sequences)
{
    struct world w;
    struct phid_engine_options options = world_pool(MOST);
    options.max_running = MOST;
    options.step_tokens = 2 * MOST;
    world_init(&w, 0, &options);
    struct client clients[MOST];
    for (size_t i = 0; i < sequences; i++) {
        int32_t prompt[8];
        world_prompt(prompt, 8, (int)i);
        struct phid_request_params params = client_params(prompt, 8, ANSWER);
        params.ignore_eos = true;
        client_submit(&clients[i], w.engine, &params);
    }
    for (size_t i = 0; i < sequences; i++) {
        client_finish(&clients[i]);
        assert_int_equal(clients[i].last.completion_tokens, ANSWER);
        client_fini(&clients[i]);
    }
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    printf("running %zu: host %.1f us, sample %.1f us a step (%llu steps)\n", sequences,
           (double)stats.host_ns * 1e-3 / (double)stats.steps,
           (double)stats.sample_ns * 1e-3 / (double)stats.steps, (unsigned long long)stats.steps);
    world_fini(&w);
}

static void bench_host(void **state)
{
    (void)state;
    measure(1);
    measure(8);
    measure(MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bench_host)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
