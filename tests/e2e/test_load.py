"""The load generator of tests/bench against the real program: what it counts and what it reports."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from phid_server import PATIENCE, PHID, TINY

LOAD = pathlib.Path(os.environ.get("PHID_LOAD", str(pathlib.Path(PHID).parent / "tests" / "bench" / "load")))
# Field names that scripts written for `vllm bench serve` look for.
FIELDS = ["request_throughput", "output_throughput", "total_token_throughput", "completed", "failed", "duration", "num_prompts",
          "total_input_tokens", "total_output_tokens", "request_rate", "max_concurrency", "request_goodput", "model_id"]
FIELDS += [f"{stat}_{time}_ms" for stat in ("mean", "median", "std", "p50", "p90", "p99") for time in ("ttft", "tpot", "itl", "e2el")]


def load(server, *arguments, code=0):
    done = subprocess.run([LOAD, "--url", server.url, "--json", "--ids", "300-1400", *arguments], capture_output=True, text=True,
                          timeout=120 * PATIENCE)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_closed_loop(tiny_server, endpoint):
    out = load(tiny_server, "--endpoint", endpoint, "--concurrency", "4", "--requests", "10", "--warmup", "3", "--prompt-tokens", "20",
               "--answer-tokens", "12", "--goodput", "ttft:1e8", "tpot:1e8")
    assert not [f for f in FIELDS if f not in out]
    assert (out["completed"], out["failed"], out["errors"]) == (10, 0, {})
    assert out["total_output_tokens"] == 120
    assert endpoint == "chat" or out["total_input_tokens"] == 200
    assert out["max_concurrent_requests"] == 4
    assert out["request_goodput"] == pytest.approx(out["request_throughput"])
    assert 0 < out["median_ttft_ms"] <= out["p99_ttft_ms"] <= out["max_e2el_ms"]


def test_arrivals_and_trace(tiny_server, tmp_path):
    trace = tmp_path / "trace.jsonl"
    out = load(tiny_server, "--rate", "50", "--requests", "20", "--answer-tokens", "8", "--trace", str(trace))
    assert out["completed"] == 20 and out["request_rate"] == 50 and out["max_concurrency"] is None
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert len(lines) == 20
    for line in lines:
        assert line["outcome"] == "good" and line["output_tokens"] == 8
        assert line["ttft_ms"] + sum(line["gaps_ms"]) <= line["e2el_ms"] + 0.1


def test_conversations(tiny_server):
    out = load(tiny_server, "--workload", "multi-turn", "--turns", "3", "--endpoint", "chat", "--concurrency", "2", "--requests", "6",
               "--prompt-tokens", "5", "--answer-tokens", "6")
    assert out["completed"] == 6 and out["errors"] == {}


def test_errors_are_counted(tiny_server):
    out = load(tiny_server, "--model", "nobody", "--requests", "3", code=1)
    assert (out["completed"], out["failed"], out["malformed_errors"]) == (0, 3, 0)
    assert out["errors"] == {"404 model_not_found": 3}


def test_nobody_there():
    done = subprocess.run([LOAD, "--url", "http://127.0.0.1:1"], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 1 and "nobody answers there" in done.stderr


def test_one_prefix_is_computed_once(tmp_path):
    """The one promise of tests/bench/serving.py that is a count, not a time."""
    script = pathlib.Path(__file__).resolve().parents[1] / "bench" / "serving.py"
    done = subprocess.run([sys.executable, script, "-m", TINY, "--ids", "300-1400", "prefix"], capture_output=True, text=True,
                          timeout=300 * PATIENCE)
    assert done.returncode == 0 and "kept" in done.stdout, done.stdout + done.stderr
