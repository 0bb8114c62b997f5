"""The OpenAI contract examined byte by byte: whole answers against streams, offsets, stops, limits, every field with every type."""
import collections
import json
import random
import re
import socket
import threading
import time

import pytest

from phid_server import PATIENCE, TINY, Server, read_all, wait_until
from test_http import GOOD, error_of, parse, request, send

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTION = GOOD["messages"]
BYTE = 3  # id of the tiny model's token <0x00>


def refuse_twins(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a JSON object names something twice: {names}"
    return dict(pairs)


def post(server, path, body, **more):
    status, headers, text = send(server, "POST", path, {"model": "tiny", "temperature": 0, **body}, timeout=60, **more)
    return status, headers, json.loads(text, object_pairs_hook=refuse_twins)


def ask(server, path, body):
    status, _, reply = post(server, path, body)
    assert status == 200, reply
    return reply


def events(server, path, body):
    status, headers, text = send(server, "POST", path, {"model": "tiny", "temperature": 0, "stream": True, **body}, timeout=60)
    assert status == 200, text
    assert headers["content-type"].startswith("text/event-stream")
    blocks = text.decode().split("\n\n")
    assert blocks.pop() == ""
    blocks = [b for b in blocks if not b.startswith(":")]
    assert all(re.fullmatch(r"data: [^\n]+", b) for b in blocks) and blocks[-1] == "data: [DONE]"
    return [json.loads(b[6:], object_pairs_hook=refuse_twins) for b in blocks[:-1]]


def refused(server, path, body, status=400):
    got, error = error_of(send(server, "POST", path, {"model": "tiny", **body}, timeout=60))
    assert got == status, (body, error)
    return error


# ------------------------------------------------- completions, whole and streamed

def check_offsets(choice):
    """Every token lies in the text where its offset says. The first word's space and broken characters may differ."""
    text, logprobs = choice["text"], choice["logprobs"]
    assert len({len(logprobs[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}) == 1
    pairs = list(zip(logprobs["tokens"], logprobs["text_offset"]))
    for i, (token, offset) in enumerate(pairs):
        assert 0 <= offset <= len(text)
        if "\ufffd" in token or token.startswith("<"):
            continue
        if offset == 0 and token.startswith(" ") and not text.startswith(" "):
            token = token[1:]
        found = text[offset:offset + len(token)]
        assert found == token or (i == len(pairs) - 1 and token.startswith(found)), (token, offset, text)


def totals(reply):
    """The usage without its details: these also tell what was found in the cache and what was guessed."""
    return [reply["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")]


def both(server, body):
    """The same request whole and streamed; they must say the same. Returns the whole one."""
    whole = ask(server, COMPLETIONS, body)
    chunks = events(server, COMPLETIONS, {**body, "stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == [] and totals(chunks[-1]) == totals(whole)
    assert all(c["usage"] is None for c in chunks[:-1])
    parts = collections.defaultdict(list)
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
        parts[choice["index"]].append(choice)
    assert sorted(parts) == [c["index"] for c in whole["choices"]] == list(range(len(whole["choices"])))
    for choice in whole["choices"]:
        mine = parts[choice["index"]]
        assert "".join(p["text"] for p in mine) == choice["text"]
        assert [p["finish_reason"] for p in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        if choice["logprobs"] is not None:
            for name, values in choice["logprobs"].items():
                assert [v for p in mine if p["logprobs"] for v in p["logprobs"][name]] == values
            check_offsets(choice)
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return whole


PROMPTS = ["The capital", "na\u00efve \U0001f999 \u65e5\u672c\u8a9e", "", " a", "  a", "\n", "x\u0301", "<|end|>", "a<|end|>b",
           [1], [2], [BYTE + 0xE6], [BYTE + 0x80, BYTE + 0x81], [BYTE + 0xE6, BYTE + 0x97], [BYTE + 0xF0, 300], [1535], [1, 1, 1],
           list(range(240, 280)), list(range(1500, 1536))]


@pytest.mark.parametrize("options", [
    {}, {"echo": True}, {"logprobs": 3}, {"echo": True, "logprobs": 2}, {"echo": True, "logprobs": 0, "max_tokens": 0},
    {"n": 3, "temperature": 1.5, "seed": 3, "echo": True, "logprobs": 1},
], ids=str)
def test_stream_and_whole_say_the_same(tiny_server, options):
    for prompt in PROMPTS:
        both(tiny_server, {"prompt": prompt, "max_tokens": 6, "ignore_eos": True, **options})


def test_many_prompts_with_everything(tiny_server):
    whole = both(tiny_server, {"prompt": ["The", "Count", "x\u0301"], "n": 2, "echo": True, "logprobs": 2, "stop": ["e", " two"],
                               "max_tokens": 12, "ignore_eos": True})
    for i, choice in enumerate(whole["choices"]):
        assert choice["text"].startswith(["The", "Count", "x\u0301"][i // 2])


def test_parts_of_characters_have_one_name(tiny_server):
    """Byte tokens are all written as U+FFFD: a map must not name it twice, and the likelier keeps it."""
    bias = {str(i): 60 for i in range(BYTE + 127, BYTE + 247)}
    reply = ask(tiny_server, COMPLETIONS, {"prompt": "x\u0301", "max_tokens": 20, "logprobs": 20, "ignore_eos": True, "temperature": 1,
                                           "seed": 1, "logit_bias": bias})
    logprobs = reply["choices"][0]["logprobs"]
    assert any("\ufffd" in top for top in logprobs["top_logprobs"])
    for token, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
        assert token in top and top[token] >= value


def first_stop(text, stops):
    """What is left of text when generation ends with the first stop that becomes whole."""
    for end in range(1, len(text) + 1):
        found = [s for s in stops if text[:end].endswith(s)]
        if found:
            return text[:end - max(map(len, found))], "stop"
    return text, "length"


@pytest.mark.parametrize("prompt", ["The capital", "Count", "x\u0301"])
def test_stops_end_the_text_where_they_begin(tiny_server, prompt):
    rng = random.Random(prompt)
    full = ask(tiny_server, COMPLETIONS, {"prompt": prompt, "max_tokens": 40, "ignore_eos": True, "logprobs": 0})["choices"][0]
    text = full["text"]
    for _ in range(15):
        stops = []
        for _ in range(rng.randint(1, 6)):
            start = rng.randrange(len(text))
            stops.append(text[start:start + rng.choice([1, 2, 3, 5, 9, 30, 200])] + rng.choice(["", "", "", "zz", "\ufffd", "\u00e9"]))
        whole = both(tiny_server, {"prompt": prompt, "max_tokens": 40, "ignore_eos": True, "stop": stops,
                                   "logprobs": rng.choice([None, 0, 3]), "echo": False})
        choice = whole["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == first_stop(text, stops), stops
        if choice["logprobs"] is not None:
            tokens = choice["logprobs"]["tokens"]
            assert tokens == full["logprobs"]["tokens"][:len(tokens)]
            assert choice["logprobs"]["text_offset"] == full["logprobs"]["text_offset"][:len(tokens)]
            assert all(o < len(choice["text"]) for o in choice["logprobs"]["text_offset"][1:])


# ------------------------------------------------------------- chat, whole and streamed

@pytest.mark.parametrize("options", [
    {}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 3}, {"n": 4, "logprobs": True, "top_logprobs": 20},
    {"n": 5, "stop": ["e", "the "], "logprobs": True}, {"n": 128, "max_tokens": 2},
], ids=str)
@pytest.mark.parametrize("temperature", [0, 2])
def test_chat_stream_and_whole_say_the_same(tiny_server, options, temperature):
    body = {"messages": QUESTION, "max_tokens": 20, "ignore_eos": True, "seed": 5, **options, "temperature": temperature}
    whole = ask(tiny_server, CHAT, body)
    chunks = events(tiny_server, CHAT, {**body, "stream_options": {"include_usage": True}})
    assert len({(c["id"], c["created"], c["model"], c["system_fingerprint"], c["object"]) for c in chunks}) == 1
    assert chunks[-1]["choices"] == [] and totals(chunks[-1]) == totals(whole)
    parts = collections.defaultdict(list)
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"} and chunk["usage"] is None
        if choice["index"] not in parts:  # the first of each choice, in order, with the role
            assert choice["index"] == len(parts) and choice["delta"] == {"role": "assistant", "content": "", "refusal": None}
        else:
            assert "role" not in choice["delta"]
        parts[choice["index"]].append(choice)
    assert len(parts) == body.get("n", 1)
    for choice in whole["choices"]:
        mine = parts[choice["index"]]
        assert "".join(p["delta"].get("content") or "" for p in mine) == choice["message"]["content"]
        assert [p["finish_reason"] for p in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        assert mine[-1]["delta"] == {} and mine[-1]["logprobs"] is None
        if not options.get("logprobs"):
            assert choice["logprobs"] is None
            continue
        entries = choice["logprobs"]["content"]
        assert [e for p in mine if p["logprobs"] for e in p["logprobs"]["content"]] == entries
        spelled = bytes(b for e in entries for b in e["bytes"] or []).decode("utf-8", "replace")
        assert spelled.removeprefix(" ").startswith(choice["message"]["content"])
        for e in entries:
            assert set(e) == {"token", "logprob", "bytes", "top_logprobs"} and -9999 <= e["logprob"] <= 0
            assert len(e["top_logprobs"]) == options.get("top_logprobs", 0)
            values = [t["logprob"] for t in e["top_logprobs"]]
            assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("options", [
    {"temperature": 2, "top_p": 0}, {"temperature": 2, "top_p": 1e-300}, {"temperature": 1e-300}, {"temperature": 1e-40},
    {"temperature": 1e-45}, {"temperature": 2, "top_k": 1}, {"temperature": 2, "min_p": 1},
], ids=str)
def test_extreme_sampling_is_greedy(tiny_server, options):
    reply = ask(tiny_server, CHAT, {"messages": QUESTION, **options})
    assert reply["choices"][0]["message"]["content"] == "The capital of France is Paris."


@pytest.mark.parametrize("options", [
    {"frequency_penalty": -2}, {"frequency_penalty": 2, "presence_penalty": 2}, {"repetition_penalty": 0.01},
    {"repetition_penalty": 10}, {"temperature": 2, "top_p": 0.9999999}, {"temperature": 2, "top_k": 2**31 - 1},
    {"logit_bias": {str(i): 99.9 for i in range(1536)}}, {"logit_bias": {str(i): 100 for i in range(1536)}},
], ids=lambda o: str(o)[:40])
def test_extreme_settings_are_survived(tiny_server, options):
    reply = ask(tiny_server, CHAT, {"messages": QUESTION, "max_tokens": 100, "ignore_eos": True, "seed": 1, **options})
    assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["completion_tokens"] == 100


def test_banned_tokens(tiny_server):
    banned = {str(i): -100 for i in range(1536)}
    for stream in (False, True):
        for path, body in ((CHAT, {"messages": QUESTION}), (COMPLETIONS, {"prompt": "a"})):
            assert refused(tiny_server, path, {**body, "stream": stream, "logit_bias": banned})["param"] == "logit_bias"
    del banned["300"]
    reply = ask(tiny_server, COMPLETIONS, {"prompt": "a", "max_tokens": 5, "logit_bias": banned, "temperature": 2, "logprobs": 0})
    assert len(set(reply["choices"][0]["logprobs"]["tokens"])) == 1 and reply["usage"]["completion_tokens"] == 5


# -------------------------------------------------------------------- limits

@pytest.fixture(scope="module")
def small():
    """A context of 64 tokens, one request at a time, one waiting."""
    server = Server(TINY, "--context", "64", "--set", "engine.max_running=1", "--set", "limits.queue=2", "--set", "model.alias=[tiny]")
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("prompt,max_tokens,expected", [
    (10, 54, 54), (10, 55, 54), (10, 10**18, 54), (62, 5, 2), (63, 5, 1), (63, 0, 0), (64, 0, 0), (64, 1, None), (65, 0, None), (500, 1, None),
])
def test_prompt_and_answer_share_the_context(small, prompt, max_tokens, expected):
    body = {"prompt": [300] * prompt, "max_tokens": max_tokens, "ignore_eos": True}
    if expected is None:
        error = refused(small, COMPLETIONS, body)
        assert error["code"] == "context_length_exceeded" and error["param"] == "prompt"
        assert "maximum context length is 64 tokens" in error["message"] and str(prompt) in error["message"]
        return
    reply = ask(small, COMPLETIONS, body)
    assert reply["usage"]["prompt_tokens"] == prompt and reply["usage"]["completion_tokens"] == expected
    assert reply["choices"][0]["finish_reason"] == "length"
    scored = ask(small, COMPLETIONS, {**body, "echo": True, "logprobs": 1})["choices"][0]["logprobs"]
    assert len(scored["tokens"]) == prompt + expected


def test_a_full_queue_is_503(small):
    long = {"model": "tiny", "prompt": "Count", "max_tokens": 60, "ignore_eos": True}
    seen = []

    def one():
        seen.append(send(small, "POST", COMPLETIONS, long, timeout=60))

    for _ in range(20):
        threads = [threading.Thread(target=one) for _ in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if any(reply[0] == 503 for reply in seen):
            break
    assert {reply[0] for reply in seen} == {200, 503}
    full = next(reply for reply in seen if reply[0] == 503)
    error = error_of(full)[1]
    assert (error["type"], error["code"]) == ("server_error", "overloaded")
    assert 1 <= int(full[1]["retry-after"]) <= 60
    assert full[1].get("x-should-retry") is None
    # What can never fit is no reason to come back.
    assert refused(small, COMPLETIONS, {"prompt": "a", "n": 3})["param"] == "n"
    assert refused(small, COMPLETIONS, {"prompt": ["a", "b", "c"]})["param"] == "prompt"


# ------------------------------------------------------------- fields and types

VALUES = {"true": True, "0": 0, "1": 1, "-1": -1, "0.5": 0.5, "2^62": 2**62, "2^63": 2**63, "-2^63-1": -2**63 - 1, "1e308": 1e308,
          "-1e308": -1e308, "text": "x", "number as text": "1", "empty text": "", "[]": [], "[1]": [1], "[text]": ["x"], "[[]]": [[]],
          "[null]": [None], "[{}]": [{}], "{}": {}, "{a:1}": {"a": 1}, "{a:text}": {"a": "b"}, "{1:1}": {"1": 1}}
NUMBER = {"0", "1", "0.5"}
TEXT = {"text", "number as text", "empty text"}
COMMON = {  # field: the values above that are good
    "temperature": NUMBER, "top_p": NUMBER, "min_p": NUMBER, "frequency_penalty": NUMBER | {"-1"}, "presence_penalty": NUMBER | {"-1"},
    "repetition_penalty": {"1", "0.5"}, "top_k": {"0", "1", "-1"}, "seed": {"0", "1", "-1", "2^62"}, "n": {"1"},
    "stop": {"text", "number as text", "[]", "[text]"}, "stream": {"true"}, "stream_options": set(), "user": TEXT,
    "logit_bias": {"{}", "{1:1}"}, "ignore_eos": {"true"}, "min_tokens": {"0", "1"}, "model": set(),
}
FIELDS = {
    CHAT: {**COMMON, "max_tokens": {"1", "2^62"}, "max_completion_tokens": {"1", "2^62"}, "messages": set(), "logprobs": {"true"},
           "top_logprobs": {"0"}, "response_format": set(), "tools": {"[]"}, "tool_choice": set(), "parallel_tool_calls": {"true"},
           "functions": {"[]"}, "function_call": set(), "reasoning_effort": set(), "verbosity": set(), "prediction": set(),
           "modalities": set(), "audio": set(), "store": {"true"}, "metadata": {"{}", "{a:text}"}, "service_tier": set(),
           "prompt_cache_key": TEXT, "safety_identifier": TEXT, "web_search_options": set(), "moderation": set()},
    COMPLETIONS: {**COMMON, "max_tokens": {"0", "1", "2^62"}, "max_completion_tokens": {"0", "1", "2^62"},
                  "prompt": TEXT | {"[1]", "[text]"}, "echo": {"true"}, "suffix": {"empty text"}, "best_of": {"0", "1"},
                  "logprobs": {"0", "1"}},
}


@pytest.mark.parametrize("path,field", [(p, f) for p in FIELDS for f in FIELDS[p]])
def test_every_field_with_every_type(tiny_server, path, field):
    base = {"model": "tiny", "max_tokens": 2, **({"messages": QUESTION} if path == CHAT else {"prompt": "The"})}
    for name, value in VALUES.items():
        reply = send(tiny_server, "POST", path, {**base, field: value})
        if name in FIELDS[path][field]:
            assert reply[0] == 200, (name, reply)
            continue
        status, error = error_of(reply)
        assert status == (404 if field == "model" and name in ("text", "number as text") else 400), (name, error)
        assert (error["param"] or "").startswith(field), (name, error)
        assert error["type"] == "invalid_request_error" and isinstance(error["code"], str)


@pytest.mark.parametrize("value,param", [
    ({"type": "content"}, "prediction.content"), ({"type": "content", "content": 5}, "prediction.content"),
    ({"type": "x", "content": "a"}, "prediction.type"), ({"content": "a"}, "prediction.type"),
    ({"type": "content", "content": [5]}, "prediction.content[0]"),
    ({"type": "content", "content": [{"type": "image_url"}]}, "prediction.content[0].type"),
    ({"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}, "prediction.content[1].text"),
])
def test_predictions_are_checked(tiny_server, value, param):
    assert refused(tiny_server, CHAT, {"messages": QUESTION, "prediction": value})["param"] == param


def test_names_are_told_apart_by_their_whole_length(tiny_server):
    for model in ("tin", "tiny ", "Tiny", "tiny/", "t" * 100000, "\u00fc" * 100, "tiny\r\nx: y", "\x1b[31m", "\U0001f999" * 50):
        error = refused(tiny_server, COMPLETIONS, {"prompt": "a", "model": model}, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model") and len(error["message"]) < 600
        assert not any(ord(c) < 32 for c in error["message"])


# ---------------------------------------------------------------------- the wire

def half_close(server, data, timeout=30):
    with server.connect(timeout) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return read_all(s)


def statuses(reply):
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d+)", reply) if s != b"100"]


def test_a_client_that_has_no_more_to_say_is_answered(tiny_server):
    long = {"model": "tiny", "prompt": "Count", "max_tokens": 1500, "ignore_eos": True}
    for data, expected in [
        (request("GET", "/health", close=False), [200]), (request("POST", CHAT, GOOD), [200]), (request("POST", CHAT, b"{"), [400]),
        (request("POST", "/nowhere", GOOD), [404]), (request("POST", COMPLETIONS, long), [200]),
        (request("GET", "/v1/models", close=False) * 5 + request("POST", CHAT, GOOD, close=False) * 2, [200] * 7),
        (b"GET /health HTTP/1.0\r\n\r\n", [200]),
    ]:
        assert statuses(half_close(tiny_server, data)) == expected, data[:60]
    reply = half_close(tiny_server, request("POST", COMPLETIONS, {**long, "stream": True}))
    assert b"data: [DONE]" in reply
    # And who hangs up in mid request gets nothing, but does not stay either.
    assert half_close(tiny_server, b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc") == b""
    assert half_close(tiny_server, b"POST /v1/compl") == b""


def test_pipelining_two_hundred_deep(tiny_server):
    reply = tiny_server.raw(request("GET", "/v1/models/tiny", close=False) * 199 + request("GET", "/health"), 60)
    assert statuses(reply) == [200] * 200
    mixed = [request("POST", CHAT, b"{", close=False), request("POST", CHAT, {**GOOD, "n": 0}, close=False),
             request("POST", "/x", GOOD, close=False), request("POST", CHAT, {**GOOD, "stream": True}, close=False),
             request("GET", "/health", close=False)]
    expected = [400, 400, 404]  # refused before its body: the connection ends
    assert statuses(tiny_server.raw(b"".join(mixed))) == expected


def test_head_is_get_without_the_body(tiny_server):
    for path, status in (("/health", 200), ("/v1/models", 200), ("/v1/models/nope", 404), ("/nope", 404), (CHAT, 405)):
        got, headers, body = send(tiny_server, "HEAD", path)
        assert (got, body) == (status, b"") and int(headers["content-length"]) > 0
    assert tiny_server.raw(request("HEAD", "/health", headers=["Content-Length: 99999999999"])).endswith(b"\r\n\r\n")


def test_http_1_0(tiny_server):
    body = json.dumps({**GOOD, "stream": True}).encode()
    reply = tiny_server.raw(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head, _, text = reply.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower() and text.startswith(b"data: {") and text.endswith(b"data: [DONE]\n\n")
    twice = b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2
    assert statuses(tiny_server.raw(twice + b"GET /health HTTP/1.0\r\n\r\n")) == [200] * 3


def test_nothing_is_promised_for_no_body(tiny_server):
    """100 Continue is for bodies."""
    reply = tiny_server.raw(request("GET", "/health", headers=["Expect: 100-continue"]))
    assert reply.startswith(b"HTTP/1.1 200")


def test_log_lines_are_ours_alone(tiny_server):
    before = len(tiny_server.lines)
    evil = ["a\tb", "a event=forged level=error", 'x" y="z', "\u00e9\u2028", "a" * 5000, "plain-1.2:3_4/5+6"]
    for word in evil:
        data = request("GET", "/v1/models", headers=["X-Client-Request-Id: " + word, "User-Agent: " + word, "X-Request-Id: " + word])
        assert statuses(tiny_server.raw(data)) == [200]
    send(tiny_server, "GET", "/a\"b'c=d\\e;event=forged")
    wait_until(lambda: len(tiny_server.lines) >= before + len(evil) + 1)
    lines = [line for line in tiny_server.lines[before:] if "event=request" in line]
    assert len(lines) >= len(evil) + 1
    for line in lines:
        assert re.fullmatch(r"time=\S+ level=info( [a-z_]+=[\x21-\x7e]*)+\n", line), line
        assert line.count(" event=") == 1
    assert any(line.endswith("client_id=plain-1.2:3_4/5+6\n") for line in lines)
