"""The wire: routes, headers, CORS, keys, framing, hostile bodies. Raw sockets, so that nothing is repaired on the way."""
import json
import re
import socket
import threading
import time

import pytest

from phid_server import PATIENCE, TINY, Server, read_all, wait_until

GOOD = {"model": "tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}


def request(method, path, body=None, headers=(), version="HTTP/1.1", close=True):
    head = [f"{method} {path} {version}", "Host: 127.0.0.1"]
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        head.append(f"Content-Length: {len(body)}")
        head.append("Content-Type: application/json")
    if close:
        head.append("Connection: close")
    head += list(headers)
    return ("\r\n".join(head) + "\r\n\r\n").encode() + (body or b"")


def parse(reply):
    """(status, headers, body) of the first reply in some bytes."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    assert lines[0].startswith("HTTP/1.1 "), reply[:200]
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size.split(b";")[0], 16)
            if n == 0:
                break
            body, rest = body + rest[:n], rest[n + 2:]
        rest = body
    elif "content-length" in headers:
        rest = rest[:int(headers["content-length"])]
    return int(lines[0].split()[1]), headers, rest


def send(server, *args, timeout=10, **kw):
    return parse(server.raw(request(*args, **kw), timeout))


def error_of(reply):
    status, headers, body = reply
    assert headers["content-type"].startswith("application/json"), headers
    assert headers["x-request-id"].startswith("req_")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return status, error


# ------------------------------------------------------------------ routes

@pytest.mark.parametrize("path", ["/health", "/v1/models", "/models", "//v1//models", "/v1/models/", "/v1/models?beta=true", "/", "/v1/models/tiny"])
def test_get_routes(tiny_server, path):
    status, headers, _ = send(tiny_server, "GET", path)
    assert status == 200 and headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "//v1/chat//completions/", "/v1/chat/completions?api-version=1"])
def test_post_routes(tiny_server, path):
    status, _, body = send(tiny_server, "POST", path, GOOD)
    assert status == 200 and json.loads(body)["choices"][0]["message"]["content"] == "The capital of France is Paris."


def test_body_is_json_whatever_the_content_type(tiny_server):
    body = json.dumps(GOOD).encode()
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        assert parse(tiny_server.raw(head.encode() + body))[0] == 200


def test_chunked_request_body(tiny_server):
    body = json.dumps(GOOD).encode()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7)) + b"0\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert parse(tiny_server.raw(head + pieces))[0] == 200


def test_expect_100_continue(tiny_server):
    body = json.dumps(GOOD).encode()
    with tiny_server.connect() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
        assert s.recv(1000).startswith(b"HTTP/1.1 100")
        s.sendall(body)
        assert parse(read_all(s))[0] == 200


def test_keep_alive_and_pipelining(tiny_server):
    one = request("GET", "/v1/models", close=False)
    reply = tiny_server.raw(one * 4 + request("GET", "/health"))
    assert reply.count(b"HTTP/1.1 200") == 5
    mixed = request("POST", "/v1/chat/completions", GOOD, close=False) + request("GET", "/nowhere", close=False) + request("GET", "/health")
    reply = tiny_server.raw(mixed)
    assert [int(x) for x in re.findall(rb"HTTP/1\.1 (\d+)", reply)] == [200, 404, 200]


@pytest.mark.parametrize("method,path,status,code", [
    ("GET", "/nowhere", 404, "unknown_url"), ("POST", "/v1/embedding", 404, "unknown_url"), ("GET", "/v1/files", 404, "unknown_url"),
    ("GET", "/v1/../etc/passwd", 404, "unknown_url"), ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "unknown_url"),
    ("GET", "/v1/models/nope", 404, "model_not_found"), ("GET", "/v1/models/a%2Fb", 404, "model_not_found"),
    ("GET", "/v1/models/a/b", 404, "model_not_found"), ("PUT", "/v1/models", 405, "method_not_supported"),
    ("GET", "/v1/chat/completions", 405, "method_not_supported"), ("DELETE", "/v1/completions", 405, "method_not_supported"),
    ("POST", "/health", 405, "method_not_supported"),
])
def test_wrong_urls_and_methods(tiny_server, method, path, status, code):
    reply = send(tiny_server, method, path, {} if method in ("POST", "PUT") else None)
    got, error = error_of(reply)
    assert (got, error["code"]) == (status, code)
    if status == 405:
        assert reply[1]["allow"]


def test_head_of_a_stream(tiny_server):
    reply = tiny_server.raw(request("POST", "/v1/chat/completions", {**GOOD, "stream": True}))
    status, headers, body = parse(reply)
    assert status == 200 and headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache" and headers["x-accel-buffering"] == "no"
    events = body.decode().split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    assert all(e.startswith("data: ") and "\n" not in e for e in events[:-1] if not e.startswith(":"))
    for e in events[:-2]:
        if e.startswith("data: "):
            json.loads(e[6:])


# -------------------------------------------------------------- CORS, keys

@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("# clients\nann:sk-ann-0123456789\nsk-plain-0123456789\n")
    keys.chmod(0o600)
    server = Server(TINY, "--set", f"server.api_keys_file={keys}", "--set", "server.cors_origins=[http://app.example]",
                    "--set", "server.max_body=64KiB", "--set", "model.alias=[tiny]")
    yield server
    assert server.stop() == 0


def test_keys(guarded):
    for good in ("sk-ann-0123456789", "sk-plain-0123456789"):
        assert send(guarded, "GET", "/v1/models", headers=[f"Authorization: Bearer {good}"])[0] == 200
    for bad in ([], ["Authorization: Bearer"], ["Authorization: Bearer "], ["Authorization: Bearer sk-ann-012345678"],
                ["Authorization: Bearer SK-ANN-0123456789"], ["Authorization: Basic sk-plain-0123456789"],
                ["Authorization: Bearer sk-plain-01234567899"], ["Authorization: Bearer " + "k" * 20000]):
        status, error = error_of(send(guarded, "GET", "/v1/models", headers=bad))
        assert (status, error["code"]) == (401, "invalid_api_key")
        assert "sk-" not in error["message"]
    assert send(guarded, "GET", "/health")[0] == 200
    assert error_of(send(guarded, "POST", "/v1/chat/completions", GOOD))[0] == 401


def test_a_wrong_key_is_refused_before_the_body(guarded):
    with guarded.connect() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 401")


def test_cors(guarded):
    origin = ["Origin: http://app.example"]
    status, headers, _ = send(guarded, "OPTIONS", "/v1/chat/completions", headers=origin + [
        "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, x-stainless-os, x-new-thing"])
    assert status == 204 and headers["access-control-allow-origin"] == "http://app.example"
    assert headers["access-control-allow-headers"] == "authorization, x-stainless-os, x-new-thing"
    assert "POST" in headers["access-control-allow-methods"] and headers["access-control-max-age"] == "86400"
    _, headers, _ = send(guarded, "GET", "/v1/models", headers=origin)  # 401: errors carry it too
    assert headers["access-control-allow-origin"] == "http://app.example"
    assert "x-request-id" in headers["access-control-expose-headers"]
    _, headers, _ = send(guarded, "GET", "/health", headers=["Origin: http://evil.example"])
    assert "access-control-allow-origin" not in headers


def test_body_over_the_cap(guarded):
    auth = ["Authorization: Bearer sk-plain-0123456789"]
    status, error = error_of(send(guarded, "POST", "/v1/chat/completions", b"x" * 70000, headers=auth))
    assert (status, error["code"]) == (413, "request_too_large")
    with guarded.connect() as s:  # refused at the head, without sending the body
        s.sendall(request("POST", "/v1/chat/completions", headers=auth + ["Expect: 100-continue", "Content-Length: 9000000"]))
        assert s.recv(1000).startswith(b"HTTP/1.1 413")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-plain-0123456789\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = guarded.raw(head + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 40 + b"0\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 413")


# ------------------------------------------------------------------ framing

HOST = b"Host: 127.0.0.1\r\n"
FRAMING = {
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length and chunked": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "length list": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 4,4\r\n\r\nabcd",
    "plus length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nabcd",
    "hex length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 0x4\r\n\r\nabcd",
    "negative length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "empty length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n",
    "huge length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "max length": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551615\r\n\r\n",
    "xchunked": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"GET /health HTTP/1.1\r\n" + HOST + b"X-Thing : 1\r\n\r\n",
    "no colon": b"GET /health HTTP/1.1\r\n" + HOST + b"thing\r\n\r\n",
    "empty name": b"GET /health HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "folded": b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n  2\r\n\r\n",
    "nul in value": b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: a\0b\r\n\r\n",
    "nul in url": b"GET /hea\0lth HTTP/1.1\r\n" + HOST + b"\r\n",
    "%00 in url": b"GET /health%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "lf only": b"GET /health HTTP/1.1\nHost: x\n\n",
    "http 0.9": b"GET /health\r\n\r\n",
    "http 1.9": b"GET /health HTTP/1.9\r\n" + HOST + b"\r\n",
    "http 2": b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls hello": bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]) + bytes(60),
    "binary": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    "connect": b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "bad method": b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "64 KB url": b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "64 KB header": b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 65536 + b"\r\n\r\n",
    "1000 headers": b"GET /health HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % i for i in range(1000)) + b"\r\n",
    "1000 blank lines": b"\r\n" * 1000 + b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "huge chunk": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx",
    "long chunk size": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n0\r\n\r\n",
    "bad chunk size": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    "other expect": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Expect: the-moon\r\nContent-Length: 2\r\n\r\n{}",
    "gzip body": b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", FRAMING)
def test_bad_framing_is_refused(tiny_server, name):
    reply = tiny_server.raw(FRAMING[name])
    assert reply == b"" or re.match(rb"HTTP/1\.1 (400|404|405|408|411|413|414|415|417|431|501|505) ", reply), reply[:300]
    assert len(re.findall(rb"^HTTP/1\.1 ", reply, re.M)) <= 1
    if reply:
        error_of(parse(reply))
    assert send(tiny_server, "GET", "/health")[0] == 200


def test_a_smuggled_second_request_is_not_run(tiny_server):
    inner = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    outer = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(inner)
    reply = tiny_server.raw(outer + inner)
    assert reply.count(b"HTTP/1.1 ") == 1 and reply.startswith(b"HTTP/1.1 400")


# ------------------------------------------------------------- hostile JSON

def nested(n, kind="["):
    return {"[": b"[" * n + b"]" * n, "{": b'{"a":' * n + b"1" + b"}" * n}[kind]


BODIES = {
    "empty": b"", "spaces": b"   ", "null": b"null", "number": b"3", "string": b'"x"', "array": b"[]", "object": b"{}",
    "truncated": b'{"model":"tiny"', "trailing": b"{} x", "two values": b"{}{}", "comment": b"/**/{}", "bom": b"\xef\xbb\xbf{}",
    "single quotes": b"{'a':1}", "nan": b'{"temperature":NaN}', "infinity": b'{"temperature":Infinity}', "1e999": b'{"temperature":1e999}',
    "2^63": b'{"seed":9223372036854775808}', "long number": b'{"seed":' + b"9" * 4000 + b"}", "bad utf-8": b'{"model":"\xff"}',
    "overlong": b'{"model":"\xc0\xaf"}', "surrogate bytes": b'{"model":"\xed\xa0\x80"}', "lone surrogate": b'{"model":"\\ud800"}',
    "escaped nul": b'{"model":"a\\u0000"}', "escaped nul in a key": b'{"mo\\u0000del":"a"}',
    "raw control": b'{"model":"a\nb"}', "nul": b'{"model":"a\0b"}', "deep 65": b'{"model":' + nested(65) + b"}",
    "deep 3000": nested(3000), "deep 100k": nested(100000), "deep objects": nested(100000, "{"), "unclosed 2M": b"[" * 2000000,
    "many objects": b"[" + b"{}," * 1000000 + b"{}]", "1M keys": b"{" + b",".join(b'"k%d":1' % i for i in range(300000)) + b"}",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_hostile_bodies_are_400(tiny_server, name, path):
    start = time.monotonic()
    status, error = error_of(send(tiny_server, "POST", path, BODIES[name], timeout=20))
    assert status == 400 and error["type"] == "invalid_request_error", error
    assert "JSON_" not in error["message"], "a library's words"
    assert time.monotonic() - start < 3 * PATIENCE


HUGE = {
    "n": [0, -1, 129, 10**6, 2**31, 2**62], "max_tokens": [-1, -2**62, 1.5, "1"], "temperature": [-1, 1e308, "x", [], True],
    "top_p": [-0.1, 2, "x"], "top_k": [-2**31, 2**40, 1.5], "top_logprobs": [21, 10**9, -1], "seed": ["a", 2.5, []],
    "stop": ["", [""], 5, [[]], {"a": 1}], "stream": ["yes", 1, 0, []], "logit_bias": [{"1": 1e308}, {"1.5": 1}, {"a": 1}, {"1": "x"}, 5],
    "presence_penalty": [3, -3, "x"], "frequency_penalty": [3, "x"], "user": [], "messages": [None, 5, [], [None], [[]], [{}], "x", {}],
    "tools": [5, "x", {}], "metadata": [5], "stream_options": [5, {"include_usage": "x"}],
}


@pytest.mark.parametrize("field", HUGE)
def test_field_extremes(tiny_server, field):
    for value in HUGE[field]:
        status, error = error_of(send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, field: value}))
        assert status == 400, (field, value, error)
        assert error["param"] and error["param"].startswith(field), (value, error)


def test_generated_wrong_types(tiny_server):
    """Every used field with a value of every wrong JSON type: never a crash, a 500 or a silent 200."""
    kinds = {"string": "x", "number": 1.5, "bool": True, "array": [[]], "object": {"zz": 1}}
    right = {"temperature": {"number"}, "top_p": set(), "n": set(), "max_tokens": set(), "stop": {"string"}, "stream": {"bool"},
             "seed": set(), "logprobs": {"bool"}, "frequency_penalty": {"number"}, "presence_penalty": {"number"},
             "logit_bias": set(), "messages": set(), "model": set(), "stream_options": set()}
    for field, allowed in right.items():
        for kind, value in kinds.items():
            if kind in allowed:
                continue
            status = send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, field: value})[0]
            assert status == (404 if (field, kind) == ("model", "string") else 400), (field, kind)


def test_big_inputs_do_not_stall_the_others(tiny_server):
    """A megabyte without a space, a huge bias table, thousands of messages: refused or answered, and health stays quick."""
    worst = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            start = time.monotonic()
            assert send(tiny_server, "GET", "/health")[0] == 200
            worst.append(time.monotonic() - start)
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        word = [{"role": "user", "content": "a" * 1000000}]
        assert error_of(send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, "messages": word}, timeout=30))[1]["code"] == "context_length_exceeded"
        many = [{"role": "user", "content": "x"}] * 20000
        assert send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, "messages": many}, timeout=30)[0] == 400
        bias = {str(i): 1 for i in range(200000)}
        assert send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, "logit_bias": bias}, timeout=30)[0] == 400
        stops = [f"stop {i}" for i in range(100000)]
        assert send(tiny_server, "POST", "/v1/chat/completions", {**GOOD, "stop": stops}, timeout=30)[0] in (200, 400)
    finally:
        stop.set()
        thread.join()
    assert max(worst) < 0.5 * PATIENCE, max(worst)


def test_duplicate_keys_last_wins(tiny_server):
    body = b'{"model":"nope","model":"tiny","messages":[{"role":"user","content":"Hello"}],"max_tokens":1}'
    assert send(tiny_server, "POST", "/v1/chat/completions", body)[0] == 200


# ------------------------------------------------- slow, idle, vanishing clients

def test_half_open_and_idle_clients_do_not_block(tiny_server):
    idle = []
    try:
        for i in range(500):
            s = tiny_server.connect()
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" if i % 2 else b"")
            idle.append(s)
        start = time.monotonic()
        assert send(tiny_server, "GET", "/health")[0] == 200
        assert send(tiny_server, "POST", "/v1/chat/completions", GOOD)[0] == 200
        assert time.monotonic() - start < 3 * PATIENCE
    finally:
        for s in idle:
            s.close()


def test_a_slow_head_is_cut_off(tiny_server):
    with tiny_server.connect(30) as s:
        start = time.monotonic()
        s.settimeout(2)
        reply = b""
        for byte in b"GET /health HTTP/1.1\r\nHost: x\r\n" * 10:
            try:
                s.sendall(bytes([byte]))
                time.sleep(0.2)
            except OSError:
                break
            if time.monotonic() - start > 14 * PATIENCE:
                break
        assert time.monotonic() - start < 14 * PATIENCE, "a client may send its head for ever"
        assert reply == b""


LONG = {"model": "tiny", "prompt": "Count", "max_tokens": 3000, "ignore_eos": True, "temperature": 1.0}


def metric(server, name):
    """A counter of the engine's own, from the health page."""
    return json.loads(send(server, "GET", "/health")[2])[name]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_sequence(tiny_server, stream):
    s = tiny_server.connect()
    s.sendall(request("POST", "/v1/completions", {**LONG, "stream": stream}))
    assert wait_until(lambda: metric(tiny_server, "running") == 1)
    s.close()
    assert wait_until(lambda: metric(tiny_server, "running") == 0, 2)


def test_reset_in_mid_stream(tiny_server):
    import struct
    for _ in range(20):
        s = tiny_server.connect()
        s.sendall(request("POST", "/v1/completions", {**LONG, "stream": True}))
        s.recv(100)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    assert wait_until(lambda: metric(tiny_server, "running") == 0 and metric(tiny_server, "waiting") == 0)


def test_a_client_that_does_not_read_pauses_only_itself(tiny_server):
    s = tiny_server.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.sendall(request("POST", "/v1/completions", {**LONG, "stream": True, "logprobs": 5}))
    try:
        for _ in range(5):
            start = time.monotonic()
            assert send(tiny_server, "POST", "/v1/chat/completions", GOOD)[0] == 200
            assert time.monotonic() - start < 5 * PATIENCE
    finally:
        s.close()
    assert wait_until(lambda: metric(tiny_server, "running") == 0)


# -------------------------------------------------------------------- drain

def test_sigterm_finishes_what_runs_and_exits_0():
    server = Server(TINY, "--set", "model.alias=[tiny]")
    body = {**LONG, "max_tokens": 600, "stream": True}
    s = server.connect(60)
    s.sendall(request("POST", "/v1/completions", body))
    first = s.recv(4096)
    assert first.startswith(b"HTTP/1.1 200")
    server.terminate()
    rest = first + read_all(s)
    assert b"data: [DONE]" in rest and b'"finish_reason":"length"' in rest.replace(b" ", b"")
    assert server.process.wait(20 * PATIENCE) == 0, server.log


def test_sigterm_when_idle_is_quick():
    server = Server(TINY)
    start = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - start < 2 * PATIENCE


def test_second_sigterm_ends_now():
    server = Server(TINY, "--set", "model.alias=[tiny]")
    s = server.connect(60)
    s.sendall(request("POST", "/v1/completions", {**LONG, "max_tokens": 3500, "stream": True}))
    s.recv(100)
    server.terminate()
    time.sleep(0.2)
    server.terminate()
    server.process.wait(5 * PATIENCE)


def test_memory_stays_flat(tiny_server):
    for _ in range(50):
        send(tiny_server, "POST", "/v1/chat/completions", GOOD)
    before = tiny_server.rss_bytes()
    for _ in range(150):
        send(tiny_server, "POST", "/v1/chat/completions", GOOD)
    assert tiny_server.rss_bytes() - before < 8 << 20
