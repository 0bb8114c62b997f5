#!/usr/bin/env python3
"""Measures what the server promises under load, and prints a table of promises and values.

    tests/bench/serving.py -m MODEL.gguf [GOAL...]

Goals: batch gap prefix cache overload flood thread (all of them when none is named). Each starts a server of its own.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from phid_server import PHID, Server  # noqa: E402

LOAD = pathlib.Path(os.environ.get("PHID_LOAD", str(pathlib.Path(PHID).parent / "tests" / "bench" / "load")))


def percentile(values, percent):
    """Linear between neighbours, as the load generator has it."""
    values = sorted(values)
    if not values:
        return 0.0
    place = percent / 100 * (len(values) - 1)
    low = int(place)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)


class Load:
    """One run of the load generator, in the background until `result` or `end` is asked for."""

    def __init__(self, server, *arguments, ids, trace=False):
        self.trace_file = tempfile.NamedTemporaryFile(suffix=".jsonl") if trace else None
        more = ["--trace", self.trace_file.name] if trace else []
        self.process = subprocess.Popen([LOAD, "--url", server.url, "--json", "--ids", ids, *map(str, arguments), *more],
                                        stdout=subprocess.PIPE, text=True)

    def result(self):
        out, _ = self.process.communicate()
        return json.loads(out)

    def end(self):
        """Its report so far; what runs is cut."""
        self.process.send_signal(signal.SIGINT)
        return self.result()

    def trace(self):
        return [json.loads(line) for line in open(self.trace_file.name)]


class Bench:
    def __init__(self, options):
        self.options = options
        self.rows = []

    @contextlib.contextmanager
    def server(self, *settings):
        arguments = [a for s in (*self.options.set, *settings) for a in ("--set", s)]
        server = Server(self.options.model, *arguments, ready_s=300)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()

    def load(self, server, *arguments, **more):
        return Load(server, *arguments, ids=self.options.ids, **more)

    def report(self, goal, promise, value, kept):
        self.rows.append({"goal": goal, "promise": promise, "measured": value, "kept": kept})
        print(f"{goal:34} {promise:28} {value:44} {'kept' if kept else 'MISSED'}", flush=True)


def metrics(server):
    """The samples by name and labels."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the server did not get there")
        time.sleep(0.05)


# ------------------------------------------------------------------- goals

def step_seconds(page, part):
    return page[f'phid_step_seconds_total{{part="{part}"}}']


def process_seconds(server):
    """Processor time of the whole server."""
    return metrics(server)["process_cpu_seconds_total"]


# Bytes of characters, the ids 3 to 258 of these vocabularies, come to a client only when the character is whole: without them every
# token is seen when it is made.
NO_BYTES = json.dumps({"logit_bias": {str(i): -100 for i in range(3, 259)}})


def batch(b):
    """Eight clients decoding against one, in the same server."""
    o = b.options
    with b.server("engine.speculation=off") as server:
        common = ("--prompt-tokens", 16, "--answer-tokens", o.answer, "--warmup", 1, "--extra", NO_BYTES)
        one = b.load(server, "--concurrency", 1, "--requests", 2, *common).result()
        crowd = b.load(server, "--concurrency", 8, "--requests", 8, *common, trace=True)
        eight = crowd.result()
        spent = metrics(server)
    slow, fast = 1000 / one["median_itl_ms"], 8000 / percentile(gaps_together(crowd.trace()), 50)
    b.report("8 clients against 1", "at least 3.5 times", f"{fast / slow:.2f} times ({slow:.1f} and {fast:.1f} tok/s; with their prompts "
             f"{eight['output_throughput']:.1f})", fast >= 3.5 * slow)
    parts = [step_seconds(spent, part) for part in ("host", "sample", "device")]
    share = parts[0] / sum(parts)
    b.report("scheduler's share of a step", "under 1 %", f"{100 * share:.2f} % ({1e6 * parts[0] / spent['phid_steps_total']:.0f} us a step; "
             f"sampling {100 * parts[1] / sum(parts):.2f} %)", share < 0.01)


def gaps_within(trace, begin, end):
    """Gaps between pieces that end or begin between the two times, in ms."""
    out = []
    for line in trace:
        at = line["start_s"] + line["ttft_ms"] / 1000
        for gap in line["gaps_ms"]:
            if at + gap / 1000 > begin and at < end:
                out.append(gap)
            at += gap / 1000
    return out


def gaps_together(trace):
    """Gaps, in ms, that lie in the time in which every request of the run decodes: none is still at its prompt or done."""
    firsts = [line["start_s"] + line["ttft_ms"] / 1000 for line in trace]
    ends = [first + sum(line["gaps_ms"]) / 1000 for first, line in zip(firsts, trace)]
    begin, end = max(firsts) - 1e-6, min(ends) + 1e-6  # sums of the same numbers in another order
    out = []
    for at, line in zip(firsts, trace):
        for gap in line["gaps_ms"]:
            if at >= begin and at + gap / 1000 <= end:
                out.append(gap)
            at += gap / 1000
    return out


def gap(b):
    """Running streams while a long prompt arrives."""
    o = b.options
    with b.server("engine.speculation=off", f"engine.context={o.long_prompt + 1024}") as server:
        lone = b.load(server, "--requests", 1, "--prompt-tokens", 16, "--answer-tokens", 32, "--warmup", 1).result()
        target = max(100.0, 2 * lone["median_itl_ms"])
        streams = b.load(server, "--concurrency", o.streams, "--duration", 600, "--prompt-tokens", 16, "--answer-tokens", 900,
                         "--extra", NO_BYTES, trace=True)
        wait_for(lambda: metrics(server)["phid_requests_running"] >= o.streams)
        time.sleep(6)
        done, begin = metrics(server)["phid_prefill_tokens_total"], time.monotonic()
        prompt = b.load(server, "--requests", 1, "--prompt-tokens", o.long_prompt, "--answer-tokens", 1)
        # All of it, or as much as comes within the time.
        with contextlib.suppress(subprocess.TimeoutExpired):
            prompt.process.wait(o.seconds)
        end = time.monotonic()
        rate = (metrics(server)["phid_prefill_tokens_total"] - done) / (end - begin)
        prompt.end()
        streams.end()
        gaps = gaps_within(streams.trace(), begin, end)
        before = gaps_within(streams.trace(), begin - 3, begin)
    p99 = percentile(gaps, 99)
    b.report(f"gap beside a {o.long_prompt}-token prompt", f"p99 at most 1.5 x {target:.0f} ms",
             f"p99 {p99:.0f}, median {percentile(gaps, 50):.0f}, before {percentile(before, 50):.0f} ms; "
             f"prompt {rate:.0f} tok/s", bool(gaps) and p99 <= 1.5 * target)


def prefix(b):
    """Thirty-two at once with one long prefix."""
    clients, shared, tail = 32, 1500, 30
    with b.server(f"engine.max_running={clients}") as server:
        before = metrics(server)
        result = b.load(server, "--workload", "shared-prefix", "--prefix-tokens", shared, "--prompt-tokens", tail, "--answer-tokens", 2,
                        "--concurrency", clients, "--requests", clients).result()
        after = metrics(server)
    work = after["phid_prefill_tokens_total"] - before["phid_prefill_tokens_total"]
    own = shared + clients * tail
    b.report("32 with one prefix", "prefill at most 1.1 times one", f"{work / own:.2f} times ({work:.0f} tokens of "
             f"{result['total_input_tokens']}, cached {result['total_cached_tokens']})", work <= 1.1 * own)


def cache(b):
    """What the prefix cache costs when nothing is ever found: two servers, with and without it, asked in turns with prompts that have
    nothing in common."""
    o = b.options
    names = ("true", "false")
    spent = {name: [] for name in names}
    with b.server("engine.prefix_cache=true") as with_it, b.server("engine.prefix_cache=false") as without:
        servers = dict(zip(names, (with_it, without)))
        for run in range(o.pairs + 1):
            for name in names if run % 2 == 0 else names[::-1]:
                before, cpu = metrics(servers[name]), process_seconds(servers[name])
                result = b.load(servers[name], "--concurrency", 4, "--requests", 8, "--prompt-tokens", 4 * o.prompt,
                                "--answer-tokens", o.answer).result()
                after = metrics(servers[name])
                host = step_seconds(after, "host") - step_seconds(before, "host")
                whole = sum(step_seconds(after, part) - step_seconds(before, part) for part in ("host", "sample", "device"))
                assert result["total_cached_tokens"] == 0
                if run > 0:  # the first warms up
                    spent[name].append((host, whole, process_seconds(servers[name]) - cpu))
    host = [statistics.median(run[0] for run in spent[name]) for name in names]
    share = (host[0] - host[1]) / statistics.median(run[1] for run in spent["false"])
    ratio = statistics.median(a[2] / c[2] for a, c in zip(spent["true"], spent["false"]))
    b.report("prefix cache that finds nothing", "under 0.5 % of the steps", f"{100 * share:+.3f} % ({1e3 * host[0]:.2f} and "
             f"{1e3 * host[1]:.2f} ms of scheduling); processor time {ratio:.3f} times", share < 0.005)


class Memory:
    """The server's resident memory, looked at while something else goes on."""

    def __init__(self, server):
        self.samples, self.server, self.over = [], server, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.5):
            self.samples.append(self.server.rss_bytes() / 2**20)

    def end(self):
        self.over.set()
        self.thread.join()
        return self.samples


def overload(b):
    """Ten times as many requests as the server can answer."""
    o = b.options
    common = ("--prompt-tokens", o.prompt, "--answer-tokens", o.answer)
    with b.server("limits.max_wait=10s") as server:
        # Capacity: as many clients as have a seat.
        peak = b.load(server, "--concurrency", 32, "--duration", o.seconds / 4, "--warmup", 32, *common).result()
        limit = 2 * peak["p90_tpot_ms"]
        memory = Memory(server)
        flood = b.load(server, "--rate", 10 * peak["request_throughput"], "--duration", o.seconds, *common,
                       "--goodput", f"tpot:{limit:.3f}", "ttft:20000").result()
        samples = memory.end()
    third = len(samples) // 3
    start, growth = max(samples[:third], default=0), max(samples, default=0) - max(samples[:third], default=0)
    part = flood["request_goodput"] / peak["request_throughput"]
    b.report("overload: goodput", "at least 90 % of peak", f"{100 * part:.0f} % ({peak['request_throughput']:.2f} then "
             f"{flood['request_goodput']:.2f} a second)", part >= 0.9)
    b.report("overload: refusals", "p99 under 10 ms", f"median {flood['median_refusal_ms']:.1f}, p99 {flood['p99_refusal_ms']:.1f} ms "
             f"({flood['refused']} of {flood['num_prompts']})", flood["p99_refusal_ms"] < 10)
    wrong = flood["failed"] - flood["refused"]
    b.report("overload: form", "all with error and Retry-After", f"{flood['malformed_errors']} malformed, "
             f"{flood['refused_without_retry_after']} without, {wrong} failed: {flood['errors']}",
             flood["malformed_errors"] + flood["refused_without_retry_after"] + wrong == 0)
    b.report("overload: memory", "flat (2 % or 8 MiB)", f"{start:.0f} MiB, {growth:+.1f} MiB in the last two thirds",
             growth <= max(8, 0.02 * start))


def flood(b):
    """One key with many clients, another that asks one thing at a time."""
    o = b.options
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("many:sk-bench-many-0123456789\none:sk-bench-one-0123456789\n")
        keys.flush()
        os.chmod(keys.name, 0o600)
        common = ("--prompt-tokens", o.prompt, "--answer-tokens", o.answer, "--model", "bench")
        single = ("--api-key", "sk-bench-one-0123456789", "--concurrency", 1, "--requests", o.singles, *common)
        with b.server(f"server.api_keys_file={keys.name}", "server.metrics_open=true", "model.alias=[bench]") as server:
            alone = b.load(server, *single, "--warmup", 1).result()
            many = b.load(server, "--api-key", "sk-bench-many-0123456789", "--concurrency", 64, "--duration", 600, *common)
            wait_for(lambda: metrics(server)["phid_requests_waiting"] > 0)
            beside = b.load(server, *single).result()
            many.end()
    ratio = beside["median_ttft_ms"] / alone["median_ttft_ms"]
    b.report("one key floods, another asks", "TTFT at most twice its lone value",
             f"{ratio:.2f} times ({alone['median_ttft_ms']:.0f} and {beside['median_ttft_ms']:.0f} ms, "
             f"p90 {beside['p90_ttft_ms']:.0f})", ratio <= 2)


def thread_seconds(server, name):
    """Processor time of a thread of the server."""
    for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise RuntimeError(f"the server has no thread {name}")


def ask(server, path, seconds, out):
    """GETs the path forty times a second, as a router's probes do; the times in ms go into `out`."""
    # The one who asks stands for another machine: where this is allowed, it does not wait for the processor.
    me = threading.get_native_id()
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, me, -10)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        connection.request("GET", path)
        connection.getresponse().read()
        out.append((time.monotonic() - start) * 1000)
        time.sleep(0.025)


def io_thread(b):
    """What a token costs the thread that writes it, and how probes fare meanwhile."""
    o = b.options
    with b.server("limits.queue=512") as server:
        before = thread_seconds(server, "phid-io")
        result = b.load(server, "--concurrency", 32, "--requests", 64, "--prompt-tokens", 16, "--answer-tokens", o.answer,
                        "--warmup", 32).result()
        spent = thread_seconds(server, "phid-io") - before
        tokens = result["total_output_tokens"] * 96 / 64  # with the warm-up's
        load = b.load(server, "--concurrency", 64, "--duration", 600, "--prompt-tokens", 16, "--answer-tokens", o.answer)
        wait_for(lambda: metrics(server)["phid_requests_running"] >= 16)
        times = {}
        for path in ("/health", "/metrics"):
            times[path] = []
            ask(server, path, min(5, o.seconds / 4), times[path])
        load.end()
    each = 1e6 * spent / tokens
    b.report("I/O thread", "under 20 us a token", f"{each:.1f} us ({result['output_throughput']:.0f} tok/s)", each < 20)
    for path, limit in (("/health", 5), ("/metrics", 5)):
        p99 = percentile(times[path], 99)
        b.report(f"{path} at full load", f"p99 under {limit} ms",
                 f"median {statistics.median(times[path]):.2f}, p99 {p99:.2f} ms ({len(times[path])} times)", p99 < limit)


GOALS = {"batch": batch, "gap": gap, "prefix": prefix, "cache": cache, "overload": overload, "flood": flood, "thread": io_thread}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=" ".join(GOALS))
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every server")
    parser.add_argument("--ids", default="300-30000", help="token ids of random prompts (tests/models/tiny.gguf: 300-1400)")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of an ordinary prompt")
    parser.add_argument("--answer", type=int, default=32, help="tokens of an ordinary answer")
    parser.add_argument("--long-prompt", type=int, default=4000)
    parser.add_argument("--streams", type=int, default=4, help="beside the long prompt")
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without the prefix cache")
    parser.add_argument("--singles", type=int, default=8, help="requests of the key that does not flood")
    parser.add_argument("--seconds", type=float, default=20, help="of overload; of the long prompt at most")
    parser.add_argument("--json", action="store_true", help="the table once more, as JSON")
    options = parser.parse_args()
    unknown = [g for g in options.goals if g not in GOALS]
    if unknown:
        parser.error(f"unknown goal {unknown[0]}")
    bench = Bench(options)
    for name in options.goals or GOALS:
        GOALS[name](bench)
    if options.json:
        print(json.dumps(bench.rows, indent=2))
    return 0 if all(row["kept"] for row in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
