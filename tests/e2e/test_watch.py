"""Being watched: the probes, the Prometheus page, the access log; and leaving in good order."""
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from phid_server import PATIENCE, PHID, TINY, Server, wait_until

GAUGES = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info"]
COUNTERS = ["prefix_cache_queries", "prefix_cache_hits", "spec_decode_num_drafts", "spec_decode_num_draft_tokens",
            "spec_decode_num_accepted_tokens", "spec_decode_num_accepted_tokens_per_pos", "corrupted_requests", "prompt_tokens", "generation_tokens", "request_success", "num_preemptions", "admission_rejections"]
HISTOGRAMS = ["time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
              "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
              "request_decode_time_seconds", "request_inference_time_seconds", "request_prompt_tokens",
              "request_generation_tokens", "request_max_num_generation_tokens", "request_params_n", "request_params_max_tokens",
              "request_prefill_kv_computed_tokens", "iteration_tokens_total"]


def ask(server, path, body=None, key=None, timeout=60):
    """Status, headers and text of one answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout * PATIENCE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text


def families(text):
    """The page as Prometheus reads it, and that it is well-formed beyond what the parser asks."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} comes twice"
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family.name
        samples = {}
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
        found[family.name] = samples
        if family.type == "histogram":
            buckets = [(float(dict(labels)["le"]), value) for (name, labels), value in samples.items() if name.endswith("_bucket")]
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), family.name
            count = next(v for (name, _), v in samples.items() if name.endswith("_count"))
            assert buckets[-1] == (float("inf"), count), family.name
    return found


def value(page, family, **labels):
    """Of the one sample with these labels among its own; of a histogram its count."""
    hits = [v for (name, have), v in page[family].items()
            if not name.endswith(("_bucket", "_sum")) and labels.items() <= dict(have).items()]
    assert len(hits) == 1, (family, labels, page[family])
    return hits[0]


def scrape(server, key=None):
    status, headers, text = ask(server, "/metrics", key=key)
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return families(text)


CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 30}
LONG = {"model": "tiny", "prompt": "Count", "max_tokens": 3000, "ignore_eos": True, "temperature": 1.0, "stream": True}


@pytest.fixture(scope="module")
def server():
    server = Server(TINY, "--set", "model.alias=[tiny, other]")
    yield server
    assert server.stop() == 0, server.log[-4000:]


def test_probes(server):
    for path in ("/health", "/healthz", "/livez", "/ping", "/v2/health/live"):
        status, headers, text = ask(server, path)
        assert status == 200 and json.loads(text)["status"] == "ok", path
    for path in ("/ready", "/readyz", "/v2/health/ready"):
        assert (ask(server, path)[0], json.loads(ask(server, path)[2])) == (200, {"ready": True}), path


def test_metrics_have_the_names_that_others_have(server):
    ask(server, "/v1/chat/completions", CHAT)
    page = scrape(server)
    for name in GAUGES + COUNTERS + HISTOGRAMS:
        samples = page["vllm:" + name]
        for (_, labels) in samples:
            assert dict(labels)["model_name"] == "tiny" and dict(labels)["engine"] == "0", name
    info = dict(next(iter(page["vllm:cache_config_info"]))[1])
    assert int(info["block_size"]) == 64 and int(info["num_gpu_blocks"]) > 0
    assert 0 <= value(page, "vllm:kv_cache_usage_perc") <= 1
    assert value(page, "phid_ready") == 1 and value(page, "phid_info", model="tiny") == 1


def test_metrics_count_what_happened(server):
    before = scrape(server)
    answers = [json.loads(ask(server, "/v1/chat/completions", CHAT)[2]) for _ in range(3)]
    short = json.loads(ask(server, "/v1/completions", {"model": "tiny", "prompt": "Hello", "max_tokens": 2, "ignore_eos": True})[2])
    ask(server, "/v1/completions", {"model": "nope", "prompt": "x"})
    usage = [a["usage"] for a in answers + [short]]
    # The page may be read a moment before the last counter of the last request.
    assert wait_until(lambda: value(scrape(server), "vllm:e2e_request_latency_seconds")
                      == value(before, "vllm:e2e_request_latency_seconds") + 4)
    after = scrape(server)
    grown = lambda family, **labels: value(after, family, **labels) - value(before, family, **labels)
    assert grown("vllm:prompt_tokens") == sum(u["prompt_tokens"] for u in usage)
    assert grown("vllm:generation_tokens") == sum(u["completion_tokens"] for u in usage)
    assert grown("vllm:request_success", finished_reason="stop") == 3
    assert grown("vllm:request_success", finished_reason="length") == 1
    for name in ("time_to_first_token_seconds", "request_queue_time_seconds", "request_prompt_tokens", "request_params_n"):
        assert grown("vllm:" + name) == 4 and grown("phid_" + name) == 4
    # Tokens that were guessed ahead come together.
    together = grown("vllm:spec_decode_num_accepted_tokens")
    gaps = sum(u["completion_tokens"] - 1 for u in usage)
    assert gaps - together <= grown("vllm:inter_token_latency_seconds") <= gaps
    cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in usage)
    assert grown("vllm:prefix_cache_hits") == cached <= grown("vllm:prefix_cache_queries")
    assert value(after, "phid_http_requests", path="/v1/completions", status="404") >= 1
    assert value(after, "phid_errors", code="model_not_found") >= 1


def test_metrics_count_clients_that_leave(server):
    before = scrape(server)
    s = server.connect()
    body = json.dumps(LONG).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert s.recv(100).startswith(b"HTTP/1.1 200")
    assert wait_until(lambda: value(scrape(server), "vllm:num_requests_running") == 1)
    assert value(scrape(server), "vllm:kv_cache_usage_perc") > 0
    s.close()
    assert wait_until(lambda: value(scrape(server), "vllm:request_success", finished_reason="abort")
                      == value(before, "vllm:request_success", finished_reason="abort") + 1)
    assert wait_until(lambda: value(scrape(server), "phid_clients_gone") == value(before, "phid_clients_gone") + 1)
    assert wait_until(lambda: value(scrape(server), "vllm:num_requests_running") == 0)


def test_metrics_are_quick_under_load(server):
    """Every scrape is answered while eight streams run. How fast is measured by nobody here but must not be seconds."""
    def stream():
        ask(server, "/v1/completions", {**LONG, "max_tokens": 400})
    threads = [threading.Thread(target=stream) for _ in range(8)]
    for thread in threads:
        thread.start()
    times = []
    while any(t.is_alive() for t in threads):
        start = time.monotonic()
        scrape(server)
        times.append(time.monotonic() - start)
    assert times and sorted(times)[len(times) // 2] < 0.5 * PATIENCE


def test_metrics_key_and_switch():
    server = Server(TINY, "--api-key", "sk-one")
    assert ask(server, "/metrics")[0] == 401
    assert value(scrape(server, "sk-one"), "phid_ready") == 1
    assert ask(server, "/health")[0] == 200 and ask(server, "/ready")[0] == 200
    assert server.stop() == 0
    server = Server(TINY, "--api-key", "sk-one", "--set", "server.metrics_open=true")
    assert value(scrape(server), "phid_ready") == 1
    assert server.stop() == 0
    server = Server(TINY, "--set", "server.metrics=false")
    assert ask(server, "/metrics")[0] == 404
    assert server.stop() == 0


def test_access_log(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("alice:sk-one\nsk-two\n")
    keys.chmod(0o600)
    server = Server(TINY, "--set", "model.alias=[tiny]", "--set", f"server.api_keys_file={keys}")
    usage = json.loads(ask(server, "/v1/chat/completions", CHAT, key="sk-one")[2])["usage"]
    ask(server, "/v1/models", key="sk-two")
    ask(server, "/v1/models")
    assert server.stop() == 0
    lines = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in server.lines if "event=request" in line]
    assert len(lines) == 3
    chat, models, refused = lines
    assert chat["key"] == "alice" and models["key"] == "key-2" and "key" not in refused
    assert (chat["status"], models["status"], refused["status"]) == ("200", "200", "401")
    assert int(chat["prompt_tokens"]) == usage["prompt_tokens"] and int(chat["completion_tokens"]) == usage["completion_tokens"]
    assert chat["finish"] == "stop" and chat["id"].startswith("req_") and "cached_tokens" in chat
    assert int(chat["queue_ms"]) <= int(chat["ttft_ms"]) <= int(chat["total_ms"]) + 1
    assert "sk-" not in server.log and "France" not in server.log


# -------------------------------------------------------------------- loading

def test_a_signal_while_the_model_loads():
    process = subprocess.Popen([PHID, "serve", "-m", str(TINY), "--port", "0", "--set", "log.level=debug"],
                               stderr=subprocess.PIPE, text=True)
    try:
        line = ""
        while "event=loading" not in line:
            line = process.stderr.readline()
            assert line, "it ended before it listened"
        process.send_signal(signal.SIGTERM)
        # Either it was still loading, and ends at once, or it was ready and drains: 0 in any case.
        assert process.wait(20 * PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


# --------------------------------------------------------------------- leaving

class Stream(threading.Thread):
    """A streamed completion, kept as the text of its events."""

    def __init__(self, server, **more):
        super().__init__()
        self.server, self.body, self.text, self.started = server, {**LONG, **more}, "", threading.Event()
        self.start()

    def run(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=120 * PATIENCE)
        connection.request("POST", "/v1/completions", json.dumps(self.body))
        answer = connection.getresponse()
        self.status = answer.status
        while piece := answer.read1(65536):
            self.text += piece.decode()
            self.started.set()
        self.started.set()
        connection.close()

    def wait_for_text(self):
        assert self.started.wait(30 * PATIENCE)

    def error(self):
        """The error event at the end, None without one."""
        last = [line for line in self.text.splitlines() if line.startswith("data: ")][-1][6:]
        return json.loads(last).get("error") if last != "[DONE]" else None


def test_drain_under_load():
    """Not ready at once, still served during the delay, then refused; what runs is finished; exit code 0."""
    server = Server(TINY, "--set", "model.alias=[tiny]", "--set", "server.drain.delay=1500ms")
    streams = [Stream(server, max_tokens=2500) for _ in range(4)]
    for stream in streams:
        stream.wait_for_text()
    server.terminate()
    assert wait_until(lambda: ask(server, "/ready")[0] == 503, 1)
    assert json.loads(ask(server, "/ready")[2]) == {"ready": False, "reason": "draining"}
    assert ask(server, "/health")[0] == 200
    assert ask(server, "/v1/completions", {**LONG, "max_tokens": 5, "stream": False})[0] == 200
    assert wait_until(lambda: "phase=draining" in server.log)
    try:
        status, headers, text = ask(server, "/v1/completions", {**LONG, "max_tokens": 5, "stream": False})
        assert status == 503 and headers["connection"] == "close" and int(headers["retry-after"]) >= 1
        assert json.loads(text)["error"]["code"] == "shutting_down"
        assert value(scrape(server), "phid_draining") == 1
    except ConnectionError:
        pass  # the streams were quick: it has ended
    for stream in streams:
        stream.join(60 * PATIENCE)
        assert stream.text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in stream.text
    assert server.process.wait(20 * PATIENCE) == 0, server.log


def test_drain_timeout_ends_streams_with_an_error():
    server = Server(TINY, "--set", "model.alias=[tiny]", "--set", "server.drain.timeout=300ms", "--set", "engine.context=4096")
    streams = [Stream(server, max_tokens=3900) for _ in range(6)]
    for stream in streams:
        stream.wait_for_text()
    server.terminate()
    assert server.process.wait(20 * PATIENCE) == 0, server.log
    for stream in streams:
        stream.join(20 * PATIENCE)
        error = stream.error()
        assert stream.status == 200 and (error is None or error["code"] == "shutting_down")
    assert any(stream.error() for stream in streams)
    assert all("[DONE]" not in stream.text for stream in streams if stream.error())


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_now(second):
    server = Server(TINY, "--set", "model.alias=[tiny]", "--set", "server.drain.timeout=10m")
    streams = [Stream(server, max_tokens=3900) for _ in range(6)]
    for stream in streams:
        stream.wait_for_text()
    server.terminate()
    assert wait_until(lambda: "event=draining" in server.log)
    start = time.monotonic()
    server.process.send_signal(second)
    assert server.process.wait(20 * PATIENCE) == 0, server.log
    assert time.monotonic() - start < 6 * PATIENCE
    for stream in streams:
        stream.join(20 * PATIENCE)
        assert stream.error() is None or stream.error()["code"] == "shutting_down"
