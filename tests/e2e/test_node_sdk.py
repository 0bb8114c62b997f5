"""Runs the tests written for the official Node SDK (sdk.test.mjs), each of them reported as a test of its own here."""
import os
import pathlib
import re
import subprocess

import pytest

from phid_server import ROOT

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "sdk.test.mjs"
MODULES = os.environ.get("PHID_NODE_MODULES", str(ROOT / "build" / "node_modules"))
NAMES = re.findall(r"^test\('([^']+)'", SCRIPT.read_text(), re.M)


def run(server, model, expected):
    env = {**os.environ, "PHID_URL": server.url, "PHID_MODEL": model, "PHID_EXPECTED": expected, "PHID_NODE_MODULES": MODULES}
    done = subprocess.run(["node", "--test", "--test-reporter=tap", str(SCRIPT)], env=env, capture_output=True, text=True, timeout=600)
    out = done.stdout + done.stderr
    return dict((name, word == "ok") for word, name in re.findall(r"^\s*(ok|not ok) \d+ - (.+?)\s*$", out, re.M)), out


@pytest.fixture(scope="module")
def on_tiny(tiny_server):
    return run(tiny_server, "tiny", "Paris")


@pytest.fixture(scope="module")
def on_smol(smol_server):
    return run(smol_server, "smollm2", "Paris")


@pytest.mark.parametrize("name", NAMES)
def test_node_on_tiny(on_tiny, name):
    results, out = on_tiny
    assert results.get(name), out


@pytest.mark.parametrize("name", NAMES)
def test_node_on_smollm2(on_smol, name):
    results, out = on_smol
    assert results.get(name), out


def test_both_sdks_get_the_same_text(smol, on_smol):
    """Python streamed and not; Node compared its own two in sdk.test.mjs."""
    ask = dict(model="smollm2", messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0, max_completion_tokens=60)
    whole = smol.chat.completions.create(**ask).choices[0].message.content
    streamed = "".join(c.choices[0].delta.content or "" for c in smol.chat.completions.create(stream=True, **ask) if c.choices)
    assert whole == streamed and "Paris" in whole
