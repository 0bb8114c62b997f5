"""The two lists of rotary factors over HTTP, with engine.longrope as hf, long and short: who gets which, and what a crossing costs.

The tiny model's original context is 256 tokens; "Count from 1 to 100." is answered beyond it.
"""
import json
import struct
import subprocess

import pytest

from phid_server import PHID, ROOT, TINY, Server
from test_contract import COMPLETIONS, ask, events, refused
from test_watch import scrape, value

ORIGINAL = 256
MODES = ("hf", "long", "short")


def tokenize(messages):
    done = subprocess.run([PHID, "tokenize", "-m", TINY, "--chat"], input=json.dumps(messages), text=True, capture_output=True, check=True)
    return json.loads(done.stdout)


COUNT = tokenize([{"role": "user", "content": "Count from 1 to 100."}])
TALK = max(json.loads((ROOT / "tests/models/tiny-expected.json").read_text()), key=lambda e: len(e["prompt_ids"]))


def exact(ids, mode, n):
    """The reference path's greedy text for these tokens."""
    done = subprocess.run([PHID, "eval", "-m", TINY, "--tokens", ",".join(map(str, ids)), "-n", str(n), "--exact", "--set",
                           f"engine.longrope={mode}"], text=True, capture_output=True, check=True)
    return json.loads(done.stdout)["text"]


def computed(server):
    """Tokens computed so far but for the newest one of each step."""
    return value(scrape(server), "phid_prefill_tokens")


def crossings(server):
    return server.log.count("event=rope_long")


@pytest.fixture(scope="module")
def servers():
    """One for each mode. Nothing is found computed, so that rows can be counted."""
    running = {mode: Server(TINY, "--set", f"engine.longrope={mode}", "--set", "engine.prefix_cache=false", "--set", "log.level=debug",
                            "--set", "engine.speculation=off") for mode in MODES}
    yield running
    for server in running.values():
        assert server.stop() == 0, server.log[-4000:]


def judge(server, ids):
    """Log-probabilities of the token after these, which tell the factors apart."""
    reply = ask(server, COMPLETIONS, {"prompt": ids, "max_tokens": 1, "logprobs": 5})
    return reply["choices"][0]["logprobs"]


def test_hf_takes_the_long_factors_for_a_long_prompt(servers):
    ids = TALK["prompt_ids"]
    assert len(ids) > ORIGINAL
    before, seen = computed(servers["hf"]), crossings(servers["hf"])
    reply = ask(servers["hf"], COMPLETIONS, {"prompt": ids, "max_tokens": 60})
    assert reply["choices"][0]["text"].strip() == TALK["answer"].strip()
    assert computed(servers["hf"]) - before == len(ids) and crossings(servers["hf"]) == seen
    assert judge(servers["hf"], ids) == judge(servers["long"], ids)


def test_hf_takes_the_short_factors_for_a_short_prompt(servers):
    for ids in (COUNT, TALK["prompt_ids"][:ORIGINAL - 1]):
        assert judge(servers["hf"], ids) == judge(servers["short"], ids) != judge(servers["long"], ids)
    last, beyond = TALK["prompt_ids"][:ORIGINAL], TALK["prompt_ids"][:ORIGINAL + 1]
    assert judge(servers["hf"], last) != judge(servers["long"], last)
    assert judge(servers["hf"], beyond) == judge(servers["long"], beyond)


def test_hf_computes_again_once_what_crosses(servers):
    server = servers["hf"]
    before, seen = computed(server), crossings(server)
    reply = ask(server, COMPLETIONS, {"prompt": COUNT, "max_tokens": 500})
    assert reply["choices"][0]["text"] == exact(COUNT, "hf", 500)
    assert reply["choices"][0]["finish_reason"] == "stop" and reply["choices"][0]["text"].endswith(" 99, 100.")
    assert reply["usage"]["prompt_tokens"] == len(COUNT) and reply["usage"]["completion_tokens"] > ORIGINAL
    assert crossings(server) - seen == 1 and f"tokens={ORIGINAL + 1}\n" in server.log
    assert computed(server) - before == len(COUNT) + ORIGINAL + 1
    pieces = events(server, COMPLETIONS, {"prompt": COUNT, "max_tokens": 500})
    assert "".join(e["choices"][0]["text"] for e in pieces) == reply["choices"][0]["text"]


def test_long_computes_nothing_again(servers):
    server = servers["long"]
    before = computed(server)
    reply = ask(server, COMPLETIONS, {"prompt": COUNT, "max_tokens": 500})
    assert reply["choices"][0]["text"] == exact(COUNT, "long", 500)
    assert reply["usage"]["total_tokens"] > ORIGINAL
    assert computed(server) - before == len(COUNT) and crossings(server) == 0


def test_short_ends_with_the_original_context(servers):
    server = servers["short"]
    assert f" context={ORIGINAL} " in server.log
    reply = ask(server, COMPLETIONS, {"prompt": COUNT, "max_tokens": ORIGINAL - len(COUNT)})
    assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["total_tokens"] == ORIGINAL
    assert reply["choices"][0]["text"] == exact(COUNT, "hf", ORIGINAL - len(COUNT))
    error = refused(server, COMPLETIONS, {"prompt": TALK["prompt_ids"], "max_tokens": 1})
    assert error["code"] == "context_length_exceeded" and str(ORIGINAL) in error["message"]
    assert crossings(server) == 0


def test_short_factors_and_a_longer_context_contradict():
    done = subprocess.run([PHID, "serve", "-m", TINY, "--port", "0", "--set", "engine.longrope=short", "--context", str(ORIGINAL + 1)],
                          text=True, capture_output=True, timeout=60)
    assert done.returncode == 1 and "short rotary factors" in done.stderr


# ---------------------------------------------------------------- neighbours

WIDE = 2048


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The tiny model with an original context so long that computing it again takes hundreds of small steps."""
    key = b"phi3.rope.scaling.original_context_length" + struct.pack("<I", 4)
    data = TINY.read_bytes()
    assert data.count(key + struct.pack("<I", ORIGINAL)) == 1
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    path.write_bytes(data.replace(key + struct.pack("<I", ORIGINAL), key + struct.pack("<I", WIDE)))
    server = Server(path, "--set", "model.alias=[tiny]", "--set", "engine.step_tokens=8", "--set", "engine.max_running=4", "--set",
                    "engine.speculation=off", "--set", "engine.prefix_cache=false", "--set", "log.level=debug")
    yield server
    assert server.stop() == 0, server.log[-4000:]


def test_a_crossing_holds_up_nobody(wide):
    """Two prompts share one stream, so their pieces come in the order in which the server wrote them."""
    crosser, neighbour = [300 + i * 7 % 200 for i in range(WIDE - 8)], [300, 301, 302]
    alone = [ask(wide, COMPLETIONS, {"prompt": ids, "max_tokens": n, "ignore_eos": True})["choices"][0]["text"]
             for ids, n in ((crosser, 20), (neighbour, 1200))]
    assert crossings(wide) == 1
    pieces = events(wide, COMPLETIONS, {"prompt": [crosser, neighbour], "max_tokens": 1200, "ignore_eos": True, "logprobs": 0})
    texts, mine, silent, gaps = ["", ""], 0, 0, {}
    for choice in (e["choices"][0] for e in pieces if e["choices"]):
        texts[choice["index"]] += choice["text"]
        count = len(choice["logprobs"]["tokens"]) if choice["logprobs"] else 0
        if choice["index"] == 0 and count > 0:
            gaps[mine] = silent
            mine, silent = mine + count, 0
        else:
            silent += count
    assert texts[0].startswith(alone[0]) and texts[1] == alone[1]
    assert crossings(wide) == 2
    # 2,049 tokens, at most seven of them in a step beside the neighbour's one. Pieces may hold several tokens.
    before, while_crossing = max(((at, gap) for at, gap in gaps.items() if at > 0), key=lambda g: g[1])
    assert 0 < before <= 9 and while_crossing > WIDE / 8 / 2, gaps
