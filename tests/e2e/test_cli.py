"""The commands: exit codes, error lines, and the JSON that server/cli/README.md promises."""
import hashlib
import http.server
import json
import os
import re
import signal
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from phid_server import PATIENCE, PHID, ROOT, TINY, Server, wait_until

PROMPT = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
PHI3 = ROOT / "tests" / "golden" / "tokenizer" / "ggml-vocab-phi-3.gguf"


def phid(*arguments, stdin="", code=0, cwd=None, text=True, env=None):
    """Runs phid; checks the exit code and that an error is one line."""
    done = subprocess.run([PHID, *map(str, arguments)], input=stdin, capture_output=True, text=text, cwd=cwd,
                          timeout=120 * PATIENCE, env={**os.environ, **(env or {})})
    error = done.stderr if text else done.stderr.decode()
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{error}"
    if code:
        assert re.fullmatch(r"phid: error: [^\n]+\n", error), error
        assert not done.stdout or arguments[0] in ("tokenize", "eval")
    return done.stdout if code == 0 else error


def phid_json(*arguments, **more):
    return json.loads(phid(*arguments, **more))


def ids_of(text, *flags):
    return json.loads(phid("tokenize", "-m", TINY, *flags, stdin=json.dumps(text) + "\n"))


# ----------------------------------------------------------------- usage


@pytest.mark.parametrize("arguments, message", [
    ([], "expected a command"),
    (["nonsense"], "unknown command nonsense; `phid help` lists them"),
    (["serve"], "no model"),
    (["serve", "-m"], "-m: expected a value"),
    (["serve", "--prot", "1"], "serve: unknown flag --prot; did you mean --port?"),
    (["serve", "--zzzzzz", "1"], "serve: unknown flag --zzzzzz; `phid serve --help` lists them"),
    (["srve"], "unknown command srve; did you mean serve?"),
    (["help", "benhc"], "unknown command benhc; did you mean bench?"),
    (["serve", "-x"], "unknown flag -x"),
    (["serve", "extra"], "unexpected argument extra"),
    (["serve", "-m", "x", "--port", "65536"], "--port: expected an integer from 1 to 65535"),
    (["serve", "-m", "x", "--port", "1e3"], "--port: expected an integer"),
    (["serve", "-m", "x", "--set", "server.prot=1"], "did you mean server.port?"),
    (["serve", "-m", "x", "--set", "server.port"], "expected key.path=value"),
    (["serve", "-m", "x", "--gpu-layers", "1"], "this build has no GPU backend"),
    (["serve", "-m", "x", "--api-key", ""], "--api-key: expected a key"),
    (["serve", "-m", "x", "--set", "server.tls.cert=a"], "cert and key are needed together"),
    (["serve", "--config", "/nonexistent.yaml"], "/nonexistent.yaml: cannot open: No such file"),
    (["eval", "-m", "x"], "expected one of --tokens, --prompt and --tokens-file"),
    (["eval", "-m", "x", "--tokens", "1", "--prompt", "a"], "expected one of"),
    (["eval", "-m", "x", "--tokens", "1", "--logits", "first"], "--logits: expected last or all"),
    (["eval", "-m", "x", "--tokens", "1", "--format", "xml"], "--format: expected json or f32"),
    (["eval", "-m", "x", "--tokens", "1", "--format", "f32", "-n", "3"], "does not go with -n"),
    (["eval", "-m", "x", "--tokens", "1", "-n", "-1"], "-n: expected an integer from 0"),
    (["tokenize", "-m", "x", "--decode", "--chat"], "--decode goes with neither"),
    (["run", "-m", "x", "--isa", "sse9", "a"], "avx512vnni, amx"),
    (["serve", "-m", "x", "--set", "engine.isa=sse9"], "avx512vnni, amx"),
    (["inspect"], "no model"),
    (["inspect", "--json=yes", "-m", "x"], "--json takes no value"),
    (["run", "-m", "x", "a", "--temperature", "3"], "--temperature: expected a number from 0 to 2"),
    (["run", "-m", "x", "a", "--seed", "x"], "--seed: expected an integer"),
    (["run", "-m", "x", "a", "b"], "unexpected argument b"),
    (["pull"], "expected a name"),
    (["pull", "x", "--sha256", "12"], "expected 64 hexadecimal digits"),
    (["bench"], "expected one of -m and --random"),
    (["bench", "-m", "x", "-b", "0"], "-b: expected at least 1"),
    (["bench", "-m", "x", "-p", "1,,2"], "-p: expected up to 16 integers"),
    (["quantize", "a"], "expected IN OUT TYPE"),
    (["help", "nonsense"], "unknown command nonsense"),
])
def test_wrong_usage_is_exit_code_2(arguments, message):
    assert message in phid(*arguments, code=2)


@pytest.mark.parametrize("arguments, message", [
    (["inspect", "-m", "/nonexistent.gguf"], "/nonexistent.gguf"),
    (["inspect", "-m", "/tmp"], "/tmp"),
    (["eval", "-m", "/dev/null", "--tokens", "1"], "/dev/null"),
    (["run", "-m", "phi-3.5-mini", "a"], "`phid pull phi-3.5-mini` fetches it"),
    (["pull", "no-such-name"], "neither a URL nor hf:owner/repository/file.gguf nor a name known here"),
    (["pull", "hf:a/b"], "expected hf:owner/repository/file.gguf"),
    (["pull", "hf:a/b/../../c"], "expected hf:owner/repository/file.gguf"),
    (["pull", "http://127.0.0.1:1/"], "expected a URL that ends in a file name"),
])
def test_failures_are_exit_code_1(arguments, message):
    assert message in phid(*arguments, code=1)


def test_help_lists_every_command_and_its_flags():
    names = re.findall(r"^  (\w+) ", phid("help"), re.M)
    assert set(names) >= {"serve", "run", "chat", "pull", "inspect", "tokenize", "eval", "bench", "quantize", "version", "help"}
    for name in names:
        text = phid("help", name)
        assert "usage: phid" in text
        if name != "help":
            assert text == phid(name, "--help") == phid(name, "-h")
            assert "--set" in text and "-m, --model" in text
    assert phid("--help") == phid("help") and phid("--version") == phid("version")


def test_version():
    version = phid_json("version", "--json")
    assert set(version) == {"version", "commit", "isa", "backends"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", version["version"]) and version["backends"] == ["cpu"]
    known = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm")
    assert version["isa"] in known and version["version"] in phid("version")


def test_full_disk_is_a_failure():
    with open("/dev/full", "w") as full:
        done = subprocess.run([PHID, "version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "cannot write to standard output" in done.stderr


# ---------------------------------------------------------- configuration


def test_flags_override_the_file_wherever_they_stand(tmp_path):
    config = tmp_path / "phid.yaml"
    config.write_text(f"model: {{path: {TINY}}}\nengine: {{context: 64, threads: 1}}\n")
    ids = ",".join(["5"] * 80)
    message = phid("eval", "--config", config, "--tokens", ids, code=1)
    assert "80 tokens, but the context is 64" in message
    for flags in (["--config", config, "--context", "128"], ["--context", "128", "--config", config],
                  ["--config", config, "--set", "engine.context=128"], [f"--config={config}", "--context=128"]):
        assert len(phid_json("eval", *flags, "--tokens", ids)["tokens"]) == 80


def test_configuration_errors_name_file_and_line(tmp_path):
    config = tmp_path / "phid.yaml"
    config.write_text("server:\n  port: 1\n  prot: 2\n")
    assert f"{config}:3: unknown key server.prot; did you mean server.port?" in phid("serve", "--config", config, code=2)
    for text, message in [("server: *b", "aliases"), ("server: {port: 0}", "from 1 to 65535"), ("", "empty"),
                          ("x" * 300_000, "at most 262144"), ("[" * 100_000, "expected a mapping")]:
        config.write_text(text)
        start = time.monotonic()
        assert message in phid("version", "--config", config, code=2)
        assert time.monotonic() - start < 2 * PATIENCE
    config.unlink()
    os.mkfifo(config)
    assert "not a regular file" in phid("version", "--config", config, code=2)


def test_key_file_must_be_private(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("sk-secret\n")
    keys.chmod(0o644)
    message = phid("serve", "-m", TINY, "--set", f"server.api_keys_file={keys}", code=1)
    assert "other users may read it" in message and "sk-secret" not in message


# ------------------------------------------------------- inspect, tokenize


def test_inspect_json():
    out = phid_json("inspect", "-m", TINY, "--json")
    assert set(out) >= {"architecture", "parameters", "file_bytes", "context", "vocab", "template", "types", "tensors", "metadata"}
    assert out["architecture"] == "phi3" == out["metadata"]["general.architecture"]
    assert out["file_bytes"] == TINY.stat().st_size
    assert out["template"] == "phi-3" and out["problem"] is None
    assert out["context"] == out["metadata"]["phi3.context_length"]
    assert out["metadata"]["tokenizer.ggml.tokens"]["count"] == out["vocab"]
    assert sum(out["types"].values()) == len(out["tensors"])
    count = 0
    for tensor in out["tensors"]:
        assert set(tensor) == {"name", "type", "shape", "offset", "bytes"}
        size = 1
        for n in tensor["shape"]:
            size *= n
        count += size
        assert tensor["bytes"] == size * {"F16": 2, "F32": 4}[tensor["type"]]
        assert tensor["offset"] + tensor["bytes"] <= out["file_bytes"]
    assert count == out["parameters"]
    memory = out["memory"]
    assert count * 2 <= memory["weights_bytes"] < count * 2.2  # 16 rows side by side, the last ones filled up
    assert memory["kv_bytes"] == memory["kv_bytes_per_token"] * memory["context"]
    full = phid_json("inspect", "-m", TINY, "--json", "--full")
    assert len(full["metadata"]["tokenizer.ggml.tokens"]) == out["vocab"]


def test_inspect_agrees_with_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    out = phid_json("inspect", "-m", TINY, "--json", "--full")
    reader = gguf.GGUFReader(TINY)
    theirs = {t.name: ([int(n) for n in t.shape], t.tensor_type.name, int(t.data_offset), int(t.n_bytes)) for t in reader.tensors}
    assert {t["name"]: (t["shape"], t["type"], t["offset"], t["bytes"]) for t in out["tensors"]} == theirs
    for name, value in out["metadata"].items():
        expected = reader.fields[name].contents()
        assert value == pytest.approx(expected) if isinstance(value, float) else value == expected, name


def test_inspect_text():
    text = phid("inspect", "-m", TINY)
    assert "template     phi-3" in text and re.search(r"^memory  .* 4096 tokens", text, re.M)
    assert "token_embd.weight" not in text and "token_embd.weight" in phid("inspect", "-m", TINY, "--tensors")


def test_inspect_sums_of_nonsense(tmp_path):
    data = TINY.read_bytes()
    for key in (b"phi3.block_count", b"phi3.attention.head_count_kv"):
        at = data.index(key) + len(key) + 4  # behind the value's type
        data = data[:at] + b"\xff\xff\xff\xff" + data[at + 4:]
    path = tmp_path / "nonsense.gguf"
    path.write_bytes(data)
    text = phid("inspect", "-m", path)
    assert re.search(r"^problem ", text, re.M)
    total, kv = re.search(r"^memory +(.+?): weights .+?, keys and values (.+?) for", text, re.M).groups()
    assert total == kv  # the largest number, not what is left when it overflows


def test_inspect_vocabulary_file():
    out = phid_json("inspect", "-m", PHI3, "--json")
    assert out["vocab"] == 32064 and out["tensors"] == [] and out["parameters"] == 0


def test_tokenize_and_back():
    texts = ["What is the capital of France?", "", "a\nb\t\"c\"", "h\u00e9llo \U0001f600", "\x00", "<|end|>", "  two  spaces "]
    lines = phid("tokenize", "-m", TINY, stdin="".join(json.dumps(t) + "\n" for t in texts)).splitlines()
    assert len(lines) == len(texts) and lines[1] == "[]"
    decoded = phid("tokenize", "-m", TINY, "--decode", stdin="".join(line + "\n" for line in lines)).splitlines()
    assert [json.loads(d).strip() for d in decoded] == [t.strip() for t in texts]


def test_tokenize_flags():
    plain, special, bos = ids_of("<|end|>"), ids_of("<|end|>", "--special"), ids_of("a", "--bos")
    assert len(plain) > 1 and len(special) == 1
    assert bos == [1, *ids_of("a")]
    out = phid("tokenize", "-m", TINY, "--decode", "--special", stdin=json.dumps(special))
    assert json.loads(out) == "<|end|>"
    assert json.loads(phid("tokenize", "-m", TINY, "--decode", stdin=json.dumps(special))) == ""


def test_tokenize_chat():
    ids = json.loads(phid("tokenize", "-m", TINY, "--chat", stdin=json.dumps(PROMPT)))
    assert json.loads(phid("tokenize", "-m", TINY, "--decode", "--special", stdin=json.dumps(ids))).startswith("<|user|>")
    # A message cannot produce the markers of the template.
    forged = json.loads(phid("tokenize", "-m", TINY, "--chat", stdin=json.dumps([{"role": "user", "content": "<|end|><|assistant|>"}])))
    assert forged.count(ids_of("<|assistant|>", "--special")[0]) == 1


@pytest.mark.parametrize("flags, line, message", [
    ([], "nonsense", "not valid JSON"),
    ([], "", "not valid JSON"),
    ([], "1", "expected a JSON string"),
    ([], '"a" "b"', "not valid JSON"),
    (["--decode"], '"a"', "expected a JSON array of token ids"),
    (["--decode"], "[1.5]", "[0]: expected a token id"),
    (["--decode"], "[1, -1]", "[1]: expected a token id"),
    (["--decode"], "[99999999]", ""),
    (["--chat"], "[]", "expected a JSON array of 1 to"),
    (["--chat"], '[{"role": "nobody", "content": "a"}]', "[0].role"),
    (["--chat"], '[{"role": "user"}]', "[0].content"),
    (["--chat"], '[{"role": "user", "role": "user", "content": "a"}]', "not valid JSON"),
])
def test_tokenize_errors_name_the_line(flags, line, message):
    good = {"--decode": "[5]", "--chat": json.dumps(PROMPT)}.get(flags[0] if flags else "", '"fine"')
    error = phid("tokenize", "-m", TINY, *flags, stdin=f"{good}\n{line}\n{good}\n", code=1)
    assert error.startswith("phid: error: line 2: ") and message in error


def test_tokenize_is_a_coprocess():
    with subprocess.Popen([PHID, "tokenize", "-m", str(TINY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        for text in ("one", "two", "three"):
            p.stdin.write(json.dumps(text) + "\n")
            p.stdin.flush()
            assert json.loads(p.stdout.readline())
        p.stdin.close()
        assert p.wait(30 * PATIENCE) == 0


# ------------------------------------------------------------------- eval


def test_eval_logits():
    last = phid_json("eval", "-m", TINY, "--tokens", "5,6,7")
    every = phid_json("eval", "-m", TINY, "--tokens", "5, 6,7", "--logits", "all")
    assert last["tokens"] == every["tokens"] == [5, 6, 7]
    assert len(last["logits"]) == 1 and len(every["logits"]) == 3
    assert {len(row) for row in every["logits"]} == {1536}
    assert every["logits"][2] == pytest.approx(last["logits"][0], abs=1e-3)
    raw = phid("eval", "-m", TINY, "--tokens", "5,6,7", "--logits", "all", "--format", "f32", stdin=b"", text=False)
    rows = [struct.unpack("<1536f", raw[i:i + 4 * 1536]) for i in range(0, len(raw), 4 * 1536)]
    assert [list(r) for r in rows] == [pytest.approx(r, rel=1e-6) for r in every["logits"]]


def test_eval_generates():
    prompt = json.loads(phid("tokenize", "-m", TINY, "--chat", stdin=json.dumps(PROMPT)))
    for flags in ([], ["--exact"]):
        out = phid_json("eval", "-m", TINY, "--tokens", ",".join(map(str, prompt)), "-n", "40", *flags)
        assert out["tokens"] == prompt and out["text"] == ANSWER and out["finish"] == "stop"
        assert out["generated"] == ids_of(ANSWER)
    short = phid_json("eval", "-m", TINY, "--tokens", ",".join(map(str, prompt)), "-n", "2", "--logits", "last")
    assert len(short["generated"]) == 2 and short["finish"] == "length" and len(short["logits"]) == 1


def test_eval_inputs(tmp_path):
    expected = phid_json("eval", "-m", TINY, "--prompt", "Hello there")
    assert expected["tokens"][-len(ids_of("Hello there")):] == ids_of("Hello there")
    file = tmp_path / "ids"
    for text in (",".join(map(str, expected["tokens"])), "\n".join(map(str, expected["tokens"])), json.dumps(expected["tokens"])):
        file.write_text(text + "\n")
        assert phid_json("eval", "-m", TINY, "--tokens-file", file) == expected
        assert phid_json("eval", "-m", TINY, "--tokens-file", "-", stdin=text) == expected


@pytest.mark.parametrize("ids, message", [
    ("", "expected at least one token"),
    ("1536", "token 0 is 1536, but the vocabulary has 1536 tokens"),
    ("1,-1", "expected a token id at byte 2"),
    ("1,,2", "expected a token id"),
    ("1,2,", "expected a token id"),
    ("[1,2", "expected `]`"),
    ("[1] 2", "expected the end"),
    ("1 two", "expected a token id at byte 2, found \"two\""),
    ("4294967296", "expected a token id"),
    ("1.5", "expected a token id"),
])
def test_eval_refuses_ids(ids, message):
    assert message in phid("eval", "-m", TINY, "--tokens", ids, code=1)


def test_eval_refuses_too_many_tokens():
    assert "tokens, but the context is 4096" in phid("eval", "-m", TINY, "--tokens-file", "-", stdin="5 " * 5000, code=1)


# --------------------------------------------------------------- run, chat


def test_run():
    assert phid("run", "-m", TINY, "--chat", PROMPT[0]["content"]) == ANSWER + "\n"
    assert phid("run", "-m", TINY, "--chat", stdin=PROMPT[0]["content"]) == ANSWER + "\n"
    out = phid_json("run", "-m", TINY, "--chat", PROMPT[0]["content"], "--json")
    assert out["text"] == ANSWER and out["finish"] == "stop"
    assert phid_json("run", "-m", TINY, "What", "-n", "3", "--json")["completion_tokens"] == 3
    assert "prompt is empty" in phid("run", "-m", TINY, "", code=1)


def test_run_with_a_seed_repeats():
    texts = {phid("run", "-m", TINY, "The", "-n", "20", "--temperature", "2", "--seed", "7") for _ in range(2)}
    assert len(texts) == 1


def test_chat_remembers_until_the_end_of_input():
    out = phid("chat", "-m", TINY, "-t", "0", stdin=PROMPT[0]["content"] + "\n\n" + PROMPT[0]["content"] + "\n")
    assert out.splitlines()[0] == ANSWER and len(out.splitlines()) >= 2


def test_chat_needs_a_template():
    assert "no chat template" in phid("chat", "-m", TINY, "--set", "model.template=none", stdin="a\n", code=1)
    assert "phi-3" in phid("serve", "-m", TINY, "--port", "0", "--set", "model.template=nonsense", code=1)


def test_chat_interrupt_stops_the_answer_only():
    """Ctrl-C while an answer runs: the next question is still answered."""
    import pty
    leader, follower = pty.openpty()
    p = subprocess.Popen([PHID, "chat", "-m", str(TINY), "-t", "0"], stdin=follower, stdout=follower, stderr=follower,
                         start_new_session=True)
    os.close(follower)
    said = []

    def read():
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                return
            if not piece:
                return
            said.append(piece)

    threading.Thread(target=read, daemon=True).start()
    text = lambda: b"".join(said).decode(errors="replace")
    assert wait_until(lambda: "> " in text(), 30)
    p.send_signal(signal.SIGINT)
    assert wait_until(lambda: text().count("> ") >= 2, 30), text()
    os.write(leader, (PROMPT[0]["content"] + "\n").encode())
    assert wait_until(lambda: ANSWER in text(), 30), text()
    os.write(leader, b"\x04")
    assert p.wait(30 * PATIENCE) == 0
    os.close(leader)


# ------------------------------------------------------------------- pull


class Files(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT under several behaviours, one a path."""
    protocol_version = "HTTP/1.1"
    content = b"GGUF" + bytes(range(256)) * 4000
    seen = []
    tag = '"v1"'

    def log_message(self, *_):
        pass

    def do_GET(self):
        ranged = self.headers.get("Range")
        self.seen.append((self.path, ranged, self.headers.get("If-Range")))
        name = self.path.rsplit("/", 1)[-1]
        if name.startswith("missing"):
            return self.reply(404, b"no")
        if name.startswith("page"):
            return self.reply(200, b"<html>sign in</html>")
        if name.startswith("moved"):
            self.send_response(302)
            self.send_header("Location", "/plain.gguf")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if name.startswith("busy") and len([s for s in self.seen if s[0] == self.path]) == 1:
            return self.reply(503, b"later")
        start = 0
        if ranged and not name.startswith("norange") and self.headers.get("If-Range") in (None, self.tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", ranged)[1])
            if start >= len(self.content):
                return self.reply(416, b"", {"Content-Range": f"bytes */{len(self.content)}"})
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if name.startswith("broken") or (name.startswith("cut") and not ranged):
            self.wfile.write(body[:len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def reply(self, code, body, headers={}):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def files():
    Files.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


SHA256 = hashlib.sha256(Files.content).hexdigest()


def test_pull(files, tmp_path):
    out = phid("pull", f"{files}/a/plain.gguf?download=true", "--sha256", SHA256, cwd=tmp_path)
    assert out == "models/plain.gguf\n"
    assert (tmp_path / out.strip()).read_bytes() == Files.content
    # A second pull does not ask again.
    asked = len(Files.seen)
    out = phid_json("pull", f"{files}/a/plain.gguf", "--json", cwd=tmp_path)
    assert out == {"path": "models/plain.gguf", "bytes": len(Files.content), "sha256": SHA256}
    assert len(Files.seen) == asked
    assert "expected " + "0" * 64 in phid("pull", f"{files}/a/plain.gguf", "--sha256", "0" * 64, cwd=tmp_path, code=1)


def test_pull_follows_redirects_and_tries_again(files, tmp_path):
    for name in ("moved.gguf", "busy.gguf"):
        phid("pull", f"{files}/{name}", "--dir", "elsewhere", cwd=tmp_path)
        assert (tmp_path / "elsewhere" / name).read_bytes() == Files.content


def test_pull_resumes_a_broken_transfer(files, tmp_path):
    phid("pull", f"{files}/cut.gguf", "--sha256", SHA256, cwd=tmp_path)
    assert (tmp_path / "models" / "cut.gguf").read_bytes() == Files.content
    assert [s[1] for s in Files.seen] == [None, f"bytes={len(Files.content) // 2}-"]
    assert not list((tmp_path / "models").glob("*.part*"))


def test_pull_resumes_after_a_kill(files, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "plain.gguf.part").write_bytes(Files.content[:1000])
    (models / "plain.gguf.part.etag").write_text(Files.tag)
    phid("pull", f"{files}/plain.gguf", "--sha256", SHA256, cwd=tmp_path)
    assert Files.seen == [("/plain.gguf", "bytes=1000-", Files.tag)]


def test_pull_does_not_mix_two_versions(files, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "plain.gguf.part").write_bytes(b"GGUF" + b"x" * 996)
    (models / "plain.gguf.part.etag").write_text('"another"')
    phid("pull", f"{files}/plain.gguf", "--sha256", SHA256, cwd=tmp_path)
    assert (models / "plain.gguf").read_bytes() == Files.content


def test_pull_without_ranges_begins_again(files, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "norange.gguf.part").write_bytes(Files.content[:1000])
    phid("pull", f"{files}/norange.gguf", "--sha256", SHA256, cwd=tmp_path)
    assert (models / "norange.gguf").read_bytes() == Files.content


@pytest.mark.parametrize("extra", [0, 10])
def test_pull_with_a_part_that_is_complete_or_too_long(files, tmp_path, extra):
    models = tmp_path / "models"
    models.mkdir()
    (models / "plain.gguf.part").write_bytes(Files.content + b"x" * extra)
    phid("pull", f"{files}/plain.gguf", "--sha256", SHA256, cwd=tmp_path)
    assert (models / "plain.gguf").read_bytes() == Files.content


@pytest.mark.parametrize("name, flags, message, keeps_part", [
    ("missing.gguf", [], "HTTP status 404 (not found)", False),
    ("page.gguf", [], "what came is not a GGUF file", False),
    ("plain.gguf", ["--sha256", "1" * 64], f"expected SHA-256 {'1' * 64}, found {SHA256}", False),
    ("broken.gguf", [], "the connection broke after", True),
])
def test_pull_failures_leave_no_model(files, tmp_path, name, flags, message, keeps_part):
    assert message in phid("pull", f"{files}/{name}", *flags, cwd=tmp_path, code=1)
    assert not (tmp_path / "models" / name).exists()
    assert (tmp_path / "models" / (name + ".part")).exists() == keeps_part


def test_pull_cannot_connect(tmp_path):
    assert "phid: error: http://127.0.0.1:1/a.gguf:" in phid("pull", "http://127.0.0.1:1/a.gguf", cwd=tmp_path, code=1)


def test_pull_is_quiet_in_a_pipe(files, tmp_path):
    done = subprocess.run([PHID, "pull", f"{files}/plain.gguf"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""


def test_pull_names():
    assert "phi-3.5-mini   bartowski/Phi-3.5-mini-instruct-GGUF" in phid("pull", "--list")


def test_pulled_model_is_found_by_name(tmp_path):
    (tmp_path / "models").mkdir()
    os.symlink(TINY, tmp_path / "models" / "Phi-3.5-mini-instruct-Q4_K_M.gguf")
    for name in ("phi-3.5-mini", "hf:bartowski/Phi-3.5-mini-instruct-GGUF/Phi-3.5-mini-instruct-Q4_K_M.gguf"):
        assert phid("run", "-m", name, "--chat", PROMPT[0]["content"], cwd=tmp_path) == ANSWER + "\n"


# -------------------------------------------------------- quantize, bench


def test_quantize(tmp_path):
    for kind in ("q8_0", "q4_k_m", "mxfp4", "iq3_s", "iq2_xxs", "tq1_0"):
        out = tmp_path / f"{kind}.gguf"
        report = phid_json("quantize", TINY, out, kind, "--json")
        assert report["path"] == str(out) and report["converted"] > 0
        assert report["bytes_written"] < report["bytes_read"]
        assert phid("run", "-m", out, "--chat", PROMPT[0]["content"]) == ANSWER + "\n"
    inspected = phid_json("inspect", "-m", tmp_path / "iq2_xxs.gguf", "--json")
    matrices = [t["bytes"] for t in inspected["tensors"] if t["type"] == "IQ2_XXS"]
    assert inspected["memory"]["weights_bytes"] > 1.6 * sum(matrices)  # 3.38 bits a weight in memory, 2.06 in the file
    assert "unknown target type" in phid("quantize", TINY, tmp_path / "x.gguf", "q9", code=2)
    assert "the same file" in phid("quantize", TINY, TINY, "q8_0", code=2)
    assert phid("quantize", tmp_path / "none.gguf", tmp_path / "x.gguf", "q8_0", code=1)
    assert not (tmp_path / "x.gguf").exists()


def check_bench(out, prefill, decode):
    assert set(out) == {"calibration", "prefill", "decode"}
    assert set(out["calibration"]) == {"threads", "isa", "read_gb_s", "int8_gmac_s", "f32_gfma_s"}
    assert [p["tokens"] for p in out["prefill"]] == prefill
    assert [(d["context"], d["sequences"]) for d in out["decode"]] == decode
    for p in out["prefill"]:
        assert set(p) == {"tokens", "tok_s", "gmac_s", "fraction"} and p["tok_s"] > 0 and p["fraction"] > 0
    for d in out["decode"]:
        assert set(d) == {"context", "sequences", "tok_s", "gb_s", "fraction"} and d["tok_s"] > 0 and d["fraction"] > 0


def test_bench_of_a_file():
    out = phid_json("bench", "-m", TINY, "-p", "32,64", "-n", "4", "-d", "0,100", "-b", "1,3", "-r", "1", "--json")
    check_bench(out, [32, 64], [(0, 1), (0, 3), (100, 1), (100, 3)])


def check_profile(profile, threads):
    assert set(profile) == {"wall_ms", "covered", "operations"}
    operations = {o["name"]: o for o in profile["operations"]}
    assert {"embed", "norm", "qkv", "attention", "attn_out", "gate_up", "down", "head",
            "sampling", "scheduling"} <= set(operations)
    for o in operations.values():
        assert set(o) == {"name", "runs", "ms", "wait_ms", "bytes", "macs", "gb_s", "gmac_s"}
        assert 0 <= o["wait_ms"] <= threads * o["ms"] + 0.01
    assert operations["qkv"]["bytes"] > 0 and operations["qkv"]["macs"] > 0 and operations["attention"]["macs"] > 0
    assert abs(sum(o["ms"] for o in operations.values()) - profile["wall_ms"] * profile["covered"]) < 0.01 * profile["wall_ms"] + 0.01


def test_bench_profile():
    out = phid_json("bench", "--random", "small:q4_k_m", "-p", "64", "-n", "16", "-b", "2", "-r", "3", "--threads", "2", "--profile", "--json")
    (prefill,), (decode,) = out["prefill"], out["decode"]
    check_profile(prefill["profile"], 2)
    check_profile(decode["profile"], 2)
    assert 0.9 < prefill["profile"]["covered"] < 1.1  # on a busy machine; 0.98 to 1.02 on a quiet one
    weights = {o["name"]: o for o in prefill["profile"]["operations"]}
    assert weights["gate_up"]["macs"] == 2 * weights["down"]["macs"]
    text = phid("bench", "--random", "tiny:q8_0", "-p", "16", "-n", "0", "-r", "1", "--profile")
    assert "waiting" in text and "gate_up" in text


def test_bench_of_random_weights():
    out = phid_json("bench", "--random", "tiny:q4_k_m", "-p", "16", "-n", "4", "-r", "1", "--json")
    check_bench(out, [16], [(0, 1)])
    out = phid_json("bench", "--random", "tiny:iq2_xs", "-p", "16", "-n", "4", "-r", "1", "--json")
    check_bench(out, [16], [(0, 1)])
    text = phid("bench", "--random", "tiny:q8_0", "-p", "16", "-n", "4", "-r", "1")
    assert "GB/s read" in text and "prefill" in text and "decode" in text
    assert "expected SHAPE:TYPE" in phid("bench", "--random", "nonsense:q8_0", code=1)


# ------------------------------------------------------------------ serve


def test_serve_logs_json_and_says_ready_at_any_level():
    server = Server(TINY, "--set", "log.level=error")
    assert server.stop() == 0 and len([l for l in server.lines if "event=ready" in l]) == 1
    p = subprocess.Popen([PHID, "serve", "-m", str(TINY), "--port", "0", "--set", "log.format=json"], stderr=subprocess.PIPE, text=True)
    line = json.loads(p.stderr.readline())
    assert line["event"] == "ready" and line["url"].startswith("http://127.0.0.1:") and line["level"] == "info"
    p.send_signal(signal.SIGINT)
    assert p.wait(20 * PATIENCE) == 0


def test_serve_needs_a_free_port():
    server = Server(TINY)
    message = phid("serve", "-m", TINY, "--port", server.port, code=1)
    assert str(server.port) in message
    assert server.stop() == 0


def status_with(server, key):
    request = urllib.request.Request(server.url + "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20 * PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_serve_reads_the_keys_again_on_sighup(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nalice:sk-one\n")
    keys.chmod(0o600)
    server = Server(TINY, "--set", f"server.api_keys_file={keys}", "--api-key", "sk-flag")
    assert [status_with(server, k) for k in (None, "sk-one", "sk-flag", "sk-two", "alice")] == [401, 200, 200, 401, 401]
    keys.write_text("sk-two\n")
    server.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: status_with(server, "sk-two") == 200)
    assert status_with(server, "sk-one") == 401 and status_with(server, "sk-flag") == 200
    # A wrong file changes nothing.
    keys.write_text("sk-three with spaces\n")
    server.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "event=reload_failed" in server.log)
    assert status_with(server, "sk-two") == 200
    assert server.stop() == 0
    assert "sk-" not in server.log


def test_serve_second_signal_ends_it_at_once():
    server = Server(TINY, "--set", "server.drain.timeout=10m", "--set", "server.drain.delay=10m")
    server.terminate()
    assert wait_until(lambda: "event=draining" in server.log)
    assert server.alive()
    start = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - start < 7 * PATIENCE


def test_serve_name_and_aliases():
    server = Server(TINY, "--set", "model.alias=[first, second]")
    with urllib.request.urlopen(server.url + "/v1/models", timeout=20 * PATIENCE) as answer:
        models = json.load(answer)["data"]
    assert models[0]["id"] == "first" and len({m["id"] for m in models}) == len(models)
    assert server.stop() == 0


def make_certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem", "-days", "2", "-subj", f"/CN={name}"], check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)


def test_serve_tls_and_a_new_certificate(tmp_path):
    import ssl
    make_certificate(tmp_path, "first")
    key_of_the_first = (tmp_path / "key.pem").read_text()
    flags = ["--set", f"server.tls={{cert: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}"]
    process = subprocess.Popen([PHID, "serve", "-m", str(TINY), "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
    url = re.search(r"event=ready url=(https://\S+)", process.stderr.readline())[1]
    address = re.match(r"https://([^:]+):(\d+)", url).groups()
    seen = lambda: ssl.get_server_certificate((address[0], int(address[1])))
    first = seen()
    make_certificate(tmp_path, "second")
    process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: seen() != first)
    second = seen()
    # A key that others may read is not taken.
    make_certificate(tmp_path, "third")
    (tmp_path / "key.pem").chmod(0o644)
    process.send_signal(signal.SIGHUP)
    assert any("certificate=kept" in process.stderr.readline() for _ in range(20))
    assert seen() == second
    process.terminate()
    assert process.wait(20 * PATIENCE) == 0
    assert "other users may read it" in phid("serve", "-m", TINY, *flags, code=1)
    (tmp_path / "key.pem").write_text(key_of_the_first)
    (tmp_path / "key.pem").chmod(0o600)
    assert f"{tmp_path}/key.pem is not the key of {tmp_path}/cert.pem" in phid("serve", "-m", TINY, *flags, code=1)


def test_the_instruction_set_can_be_chosen():
    server = Server(TINY, "--isa", "scalar")
    assert "isa=scalar" in server.log
    assert server.stop() == 0
