/* load: asks an OpenAI server as many clients would and reports how it did. */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "tests/bench/report.h"
#include "tests/bench/run.h"

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* A descriptor for each client, as far as it goes. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool measure(const struct options *o, const struct target *target)
{
    struct traffic traffic;
    struct run run;
    bool good = traffic_init(&traffic, o, target->model);
    good = run_init(&run, o, target, &traffic) && good;
    good = good && run_all(&run, &stop);
    if (!good) {
        perror("load");
    } else if (o->json) {
        good = report_json(o, target->model, &run.tally, stdout);
    } else {
        report_text(o, &run.tally, stdout);
    }
    good &= run.tally.good > 0;
    run_fini(&run);
    traffic_fini(&traffic);
    return good;
}

int main(int argc, char **argv)
{
    struct options options;
    struct target target;
    struct sigaction action = {.sa_handler = on_signal};
    int end = options_read(&options, argc, argv);
    if (end == 0) {
        raise_descriptors();
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        end = target_find(&target, &options) && measure(&options, &target) ? 1 : 2;
    }
    options_fini(&options);
    return end - 1;
}
