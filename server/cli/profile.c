#include "server/cli/profile.h"

#include <inttypes.h>
#include <stdio.h>

static size_t counters(const struct profile *p, struct phid_operation *ret)
{
    size_t count = phid_engine_profile(p->engine, ret);
    struct phid_engine_stats stats;
    phid_engine_stats(p->engine, &stats);
    ret[count++] = (struct phid_operation){.name = "sampling", .ns = stats.sample_ns};
    ret[count++] = (struct phid_operation){.name = "scheduling", .ns = stats.host_ns};
    return count;
}

void profile_open(struct profile *p, struct phid_engine *engine)
{
    *p = (struct profile){.engine = engine};
    p->count = counters(p, p->rows);
    for (size_t i = 0; i < p->count; i++) {
        p->rows[i] = (struct phid_operation){.name = p->rows[i].name};
    }
}

void profile_begin(struct profile *p)
{
    (void)counters(p, p->start);
}

void profile_end(struct profile *p, double wall_s)
{
    struct phid_operation now[PROFILE_ROWS_MAX];
    (void)counters(p, now);
    p->wall_s += wall_s;
    for (size_t i = 0; i < p->count; i++) {
        p->rows[i].runs += now[i].runs - p->start[i].runs;
        p->rows[i].ns += now[i].ns - p->start[i].ns;
        p->rows[i].wait_ns +=
            now[i].wait_ns > p->start[i].wait_ns ? now[i].wait_ns - p->start[i].wait_ns : 0;
        p->rows[i].bytes += now[i].bytes - p->start[i].bytes;
        p->rows[i].macs += now[i].macs - p->start[i].macs;
    }
}

static double rate(uint64_t amount, uint64_t ns)
{
    return ns == 0 ? 0 : (double)amount / (double)ns;
}

static void print_row(const struct profile *p, const struct phid_operation *row, bool json,
                      bool first)
{
    double gb_s = rate(row->bytes, row->ns);
    double gmac_s = rate(row->macs, row->ns);
    if (json) {
        printf("%s{\"name\":\"%s\",\"runs\":%" PRIu64
               ",\"ms\":%.4f,\"wait_ms\":%.4f,\"bytes\":%" PRIu64 ",\"macs\":%" PRIu64
               ",\"gb_s\":%.3f,\"gmac_s\":%.3f}",
               first ? "" : ",", row->name, row->runs, (double)row->ns * 1e-6,
               (double)row->wait_ns * 1e-6, row->bytes, row->macs, gb_s, gmac_s);
        return;
    }
    size_t threads = phid_engine_info(p->engine)->threads;
    double waiting = rate(row->wait_ns, row->ns) / (double)threads;
    printf("  %-12s %10.2f ms %6.1f%% %8.1f%% waiting", row->name, (double)row->ns * 1e-6,
           100 * (double)row->ns * 1e-9 / p->wall_s, 100 * waiting);
    if (row->bytes > 0) {
        printf(" %8.2f GB/s %8.1f GMAC/s", gb_s, gmac_s);
    }
    printf("\n");
}

void profile_print(const struct profile *p, bool json)
{
    uint64_t sum_ns = 0;
    for (size_t i = 0; i < p->count; i++) {
        sum_ns += p->rows[i].ns;
    }
    double covered = p->wall_s > 0 ? (double)sum_ns * 1e-9 / p->wall_s : 0;
    if (json) {
        printf(",\"profile\":{\"wall_ms\":%.4f,\"covered\":%.4f,\"operations\":[", p->wall_s * 1e3,
               covered);
    }
    bool first = true;
    for (size_t i = 0; i < p->count; i++) {
        if (p->rows[i].ns > 0) {
            print_row(p, &p->rows[i], json, first);
            first = false;
        }
    }
    if (json) {
        printf("]}");
    } else {
        printf("  %-12s %10.2f ms %6.1f%% of %.2f ms\n\n", "all", (double)sum_ns * 1e-6,
               100 * covered, p->wall_s * 1e3);
    }
}
