#!/usr/bin/env python3
"""`phid serve` beside llama-server, asked the same by the load generator: what clients see of many streams.

    tests/bench/compare_serving.py -m MODEL.gguf --llama FOLDER [--rounds 3] [--into FILE.json] crowd
    tests/bench/compare_serving.py -m MODEL.gguf --llama FOLDER [--rounds 1] [--into FILE.json] gap

crowd: clients that ask again as soon as they have their answer. gap: running streams, beside which one long prompt arrives. A
server is started for each run and gets as many seats as there are clients; rounds take turns in order, as in compare.py. The
table has medians over the rounds.
"""
import argparse
import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import paired
import serving

MEASURES = {  # of a run: title and unit
    "crowd": {"output_throughput": "tok/s", "median_ttft_ms": "TTFT median, ms", "p99_ttft_ms": "TTFT p99, ms",
              "median_itl_ms": "gap median, ms", "p99_itl_ms": "gap p99, ms"},
    "gap": {"before": "gap median before, ms", "median": "gap median beside it, ms", "p99": "gap p99, ms", "longest": "longest gap, ms",
            "streamed": "tokens streamed meanwhile, a second", "ttft": "TTFT of the long prompt, s"},
}


class Server:
    """Any program that answers on a port; `command` has the port in it."""

    def __init__(self, name, command, port):
        self.url, self.name = f"http://127.0.0.1:{port}", name
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        try:
            serving.wait_for(self.answers, 120)
        except TimeoutError:
            self.end()
            raise

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.returncode}")
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def end(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def server_of(name, o, seats, context, pool=0):
    """A server with so many seats, each with room for `context` tokens. llama-server divides its memory among them; with `pool`
    they share so many tokens, as phid's always do. Guesses are off: random weights repeat themselves."""
    port = free_port()
    if name == "phid":
        command = [o.phid, "serve", "-m", o.model, "--port", port, "--threads", o.threads, "--context", context,
                   "--set", f"engine.max_running={seats}", "--set", "engine.speculation=off"]
    else:
        folder = pathlib.Path(o.llama) if o.llama else None
        command = [folder / "llama-server" if folder else "llama-server", "-m", o.model, "--port", port, "-t", o.threads,
                   "-np", seats, "-fa", o.flash, *(["-kvu", "-c", pool] if pool else ["-c", seats * context])]
    server = Server(name, command, port)
    try:
        yield server
    finally:
        server.end()


def load(server, o, *more, trace=False):
    return serving.Load(server, *more, ids=o.ids, trace=trace)


def crowd(name, o):
    with server_of(name, o, o.clients, (o.prompt + o.answer + 320) // 256 * 256) as server:
        load(server, o, "--requests", 1, "--prompt-tokens", 32, "--answer-tokens", 2).result()
        told = load(server, o, "--concurrency", o.clients, "--requests", o.requests, "--prompt-tokens", o.prompt,
                    "--answer-tokens", o.answer).result()
    if told["failed"]:
        raise RuntimeError(f"{name}: {told['failed']} requests failed: {told['errors']}")
    return {key: told[key] for key in MEASURES["crowd"]}


def gap(name, o):
    with server_of(name, o, o.clients + 1, o.long_prompt + 1024, o.long_prompt + 1024 * (o.clients + 1)) as server:
        load(server, o, "--requests", 1, "--prompt-tokens", 32, "--answer-tokens", 2).result()
        streams = load(server, o, "--concurrency", o.clients, "--duration", 600, "--prompt-tokens", 16, "--answer-tokens", 900,
                       "--extra", serving.NO_BYTES, trace=True)
        time.sleep(o.before)
        begin = time.monotonic()
        prompt = load(server, o, "--requests", 1, "--prompt-tokens", o.long_prompt, "--answer-tokens", 1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            prompt.process.wait(o.seconds)
        end = time.monotonic()
        answered = prompt.process.poll() is not None
        prompt.end() if not answered else prompt.result()
        streams.end()
        trace = streams.trace()
    beside, before = serving.gaps_within(trace, begin, end), serving.gaps_within(trace, begin - o.before / 2, begin)
    if not beside or not before:
        raise RuntimeError(f"{name}: no stream ran")
    return {"before": statistics.median(before), "median": statistics.median(beside), "p99": serving.percentile(beside, 99),
            "longest": max(beside), "streamed": len(beside) / (end - begin), "ttft": end - begin, "answered": answered}


GOALS = {"crowd": crowd, "gap": gap}


def table(runs, goal):
    arms = list(dict.fromkeys(run["arm"] for run in runs if run["goal"] == goal))
    out = ["| | " + " | ".join(arms) + " |", "|---" * (1 + len(arms)) + "|"]
    for key, title in MEASURES[goal].items():
        cells = []
        for arm in arms:
            mine = [run for run in runs if run["goal"] == goal and run["arm"] == arm]
            value = statistics.median(run[key] for run in mine)
            late = key == "ttft" and not all(run["answered"] for run in mine)
            cells.append(f"{'more than ' if late else ''}{value:.{1 if value < 100 else 0}f}")
        out.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goal", choices=GOALS)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--phid", default=serving.PHID)
    parser.add_argument("--llama", metavar="FOLDER", help="where llama-server is (PATH)")
    parser.add_argument("--flash", default="on", choices=("on", "off", "auto"), help="llama-server's flash attention (on)")
    parser.add_argument("--only", choices=("phid", "llama-server"), help="this server alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--ids", default="300-30000", help="token ids of random prompts")
    parser.add_argument("--long-prompt", type=int, default=4000)
    parser.add_argument("--before", type=float, default=8, help="seconds that the streams run before the long prompt (8)")
    parser.add_argument("--seconds", type=float, default=120, help="for the long prompt at most")
    parser.add_argument("--into", type=pathlib.Path, metavar="FILE.json", help="keep the runs here, and go on from those in it")
    return parser.parse_args()


def main():
    o = arguments()
    runs = json.loads(o.into.read_text()) if o.into and o.into.exists() else []
    arms = [o.only] if o.only else ["phid", "llama-server"]
    first = 1 + max((run["round"] for run in runs if run["goal"] == o.goal), default=-1)
    for number in range(first, first + o.rounds):
        for arm in paired.order(arms, number):
            with paired.Watch() as watch:
                found = GOALS[o.goal](arm, o)
            runs.append({"goal": o.goal, "arm": arm, "round": number, "steal": round(watch.stolen, 5), **found})
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            if o.into:
                o.into.write_text(json.dumps(runs, indent=1) + "\n")
    print(table(runs, o.goal))
    return 0


if __name__ == "__main__":
    sys.exit(main())
