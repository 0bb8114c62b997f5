"""Comparing two programs on a machine that is never quite the same twice: rounds in which each runs once, in turns of order; the
ratio within a round; its median and how far that can be trusted; and how much of the processor others had meanwhile."""
import os
import pathlib
import random
import statistics


def order(arms, round_number):
    """A B C in even rounds, C B A in odd ones: over two rounds a drift of the machine meets all of them alike."""
    return list(arms) if round_number % 2 == 0 else list(reversed(arms))


def ratios(runs, ours, theirs):
    """ours / theirs of every round that has both; runs are dicts with arm, round and value."""
    values = {(run["arm"], run["round"]): run["value"] for run in runs}
    rounds = sorted({r for arm, r in values if arm == ours} & {r for arm, r in values if arm == theirs})
    return [values[ours, r] / values[theirs, r] for r in rounds]


def interval(values, part=0.95, draws=2000):
    """The bootstrap interval of the median: where the medians of random draws lie. The same for the same values."""
    if not values:
        return None
    source = random.Random(1)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(draws))
    outside = int((1 - part) / 2 * draws)
    return medians[outside], medians[draws - 1 - outside]


def processor_ticks(text):
    """All ticks, the idle and the stolen ones, of the first line of /proc/stat. Guest ticks are part of user and nice already."""
    ticks = [int(part) for part in text.split("\n", 1)[0].split()[1:9]]
    return {"all": sum(ticks), "idle": ticks[3] + ticks[4], "stolen": ticks[7]}


class Watch:
    """What of the processors' time went to others while the block ran: `stolen` by the host, and used by `others`, programs that are
    no children of this one. Children count once they have ended."""

    def __enter__(self):
        self.before, self.own_before = processor_ticks(pathlib.Path("/proc/stat").read_text()), self.own()
        return self

    def __exit__(self, *failure):
        after = processor_ticks(pathlib.Path("/proc/stat").read_text())
        passed = {key: after[key] - self.before[key] for key in after}
        own = (self.own() - self.own_before) * os.sysconf("SC_CLK_TCK")
        ticks = max(passed["all"], 1)
        self.stolen = passed["stolen"] / ticks
        self.others = max(0.0, (passed["all"] - passed["idle"] - passed["stolen"] - own) / ticks)

    def own(self):
        return sum(os.times()[:4])


def machine():
    """What a reader needs to know of it."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    fields = dict((part.strip() for part in line.split(":", 1)) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    known = {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm"}
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"processor": fields.get("model name", "unknown"), "family": fields.get("cpu family"), "model": fields.get("model"),
            "features": sorted(known & set(fields.get("flags", fields.get("Features", "")).split())),
            "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory, 1), "kernel": os.uname().release}
