"""Hostile surroundings: files that change under a running program, things that are no files, endless input, closed and full outputs."""
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time

import pytest

from phid_server import PATIENCE, PHID, SMOLLM2, TINY, Server
from test_http import GOOD, parse, request, send

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def run(*arguments, timeout=60, **more):
    """Exit code, stdout, stderr. An error must be one printable line."""
    more.setdefault("stdin", subprocess.DEVNULL)
    if "input" in more:
        del more["stdin"]
    done = subprocess.run([PHID, *map(str, arguments)], capture_output=True, timeout=timeout * PATIENCE, **more)
    error = done.stderr.decode()
    if done.returncode:
        assert error.startswith("phid: error: ") and error.endswith("\n") and error[:-1].isprintable(), (arguments, error)
    return done.returncode, done.stdout, error


def shell(line, timeout=60):
    line = line.replace("PHID", PHID).replace("TINY", str(TINY))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=timeout * PATIENCE)
    return done.returncode, done.stdout, done.stderr


# ------------------------------------------------------- the model file changes

@pytest.mark.parametrize("model", [TINY, SMOLLM2], ids=["tiny", "smollm2"])
def test_the_server_outlives_its_file(tmp_path, model):
    """Cut to nothing, filled with something else, removed: whoever is served does not notice."""
    file = tmp_path / "model.gguf"
    shutil.copy(model, file)
    server = Server(file, "--set", "model.alias=[tiny]")
    body = {**GOOD, "max_tokens": 12, "logprobs": True, "top_logprobs": 5}
    score = {"model": "tiny", "prompt": list(range(3, 300)), "echo": True, "logprobs": 3, "max_tokens": 0}

    def answers():
        replies = [json.loads(send(server, "POST", path, b, timeout=60)[2]) for path, b in ((CHAT, body), (COMPLETIONS, score))]
        return [r["choices"] for r in replies]

    before = answers()
    os.truncate(file, 0)
    assert answers() == before
    file.write_bytes(b"x" * 10_000_000)
    assert answers() == before
    file.unlink()
    assert answers() == before
    assert server.stop() == 0


def test_a_file_cut_while_it_loads_is_an_error(tmp_path):
    rng = random.Random(1)
    file = tmp_path / "model.gguf"
    for _ in range(12):
        shutil.copy(SMOLLM2, file)
        p = subprocess.Popen([PHID, "eval", "-m", str(file), "--tokens", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.random() * 0.4)
        os.truncate(file, rng.choice([0, 1000, 40_000_000]))
        error = p.communicate(timeout=60 * PATIENCE)[1]
        assert p.returncode in (0, 1), error
        if p.returncode:
            assert error.startswith("phid: error: ") and error.count("\n") == 1, error


def test_damaged_files_are_refused_or_run(tmp_path):
    """Flipped bits, overwritten, cut and missing stretches, mostly of the head: exit code 0 or 1, at once, in one line."""
    good = TINY.read_bytes()
    rng = random.Random(7)
    file = tmp_path / "model.gguf"
    head = 65536
    for i in range(120):
        data = bytearray(good)
        kind = i % 6
        if kind < 2:
            for _ in range(rng.choice([1, 2, 4, 16, 64])):
                at = rng.randrange(head)
                data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            at, size = rng.randrange(head), rng.choice([1, 2, 4, 8])
            data[at:at + size] = rng.choice([b"\xff", b"\0", b"\x7f", b"\x80"]) * size
        elif kind == 3:
            data[rng.randrange(len(data) - 100, len(data))] ^= 0xFF
        elif kind == 4:
            del data[rng.choice([rng.randrange(head), rng.randrange(len(data))]):]
        else:
            at, size = rng.randrange(head), rng.randrange(1, 64)
            del data[at:at + size]
        file.write_bytes(data)
        start = time.monotonic()
        code, _, error = run("eval", "-m", file, "--tokens", "1,2,300", "-n", "2", timeout=20)
        assert code in (0, 1), (i, error)
        assert time.monotonic() - start < 5 * PATIENCE


# --------------------------------------------------------------- what is no file

@pytest.fixture(scope="module")
def oddities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    os.symlink(folder / "loop", folder / "loop")
    os.symlink(folder / "nowhere", folder / "dangling")
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("hello")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    yield [folder / n for n in ("fifo", "folder", "loop", "dangling", "empty", "text", "socket", "missing", "text/below")] + [
        "/dev/zero", "/dev/null", "/dev/urandom", "/dev/tty", "/proc/self/mem", "/"]
    listener.close()


@pytest.mark.parametrize("command", [
    ["eval", "--tokens", "1", "-m"], ["inspect", "-m"], ["tokenize", "-m"], ["run", "hello", "-m"], ["serve", "--port", "0", "-m"],
    ["bench", "-m"], ["chat", "-m"],
], ids=lambda c: c[0])
def test_what_is_no_model_file_is_refused(oddities, command):
    for path in oddities:
        start = time.monotonic()
        code, out, error = run(*command, path)
        assert code == 1 and out == b"", (path, code)
        assert time.monotonic() - start < 2 * PATIENCE, path


@pytest.mark.parametrize("flag", ["server.api_keys_file", "server.tls.cert"])
def test_what_is_no_key_file_is_refused(oddities, flag):
    for path in oddities:
        if str(path).endswith("text") and flag == "server.api_keys_file":
            continue
        more = ["--set", f"server.tls.key={path}"] if "tls" in flag else []
        code, _, error = run("serve", "-m", TINY, "--port", "0", "--set", f"{flag}={path}", *more)
        assert code == 1, (path, error)


def test_only_files_are_replaced(tmp_path):
    """quantize puts its result in the place of a file, not of a device, a folder or a FIFO."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "fifo", tmp_path / "folder"):
        code, _, error = run("quantize", TINY, path, "q8_0")
        assert code == 1 and "not a regular file" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "folder"]
    (tmp_path / "models" / "a.gguf").mkdir(parents=True)
    code, _, error = run("pull", "http://127.0.0.1:1/a.gguf", cwd=tmp_path)
    assert code == 1 and "is no regular file" in error


# ------------------------------------------------------- endless input, lost output

@pytest.mark.parametrize("line", [
    "cat /dev/zero | PHID tokenize -m TINY", "tr '\\0' a </dev/zero | PHID tokenize -m TINY", "cat /dev/zero | PHID tokenize -m TINY --decode",
    "tr '\\0' a </dev/zero | PHID run -m TINY", "tr '\\0' 1 </dev/zero | PHID eval -m TINY --tokens-file -",
    "PHID eval -m TINY --tokens-file /dev/zero", "tr '\\0' a </dev/zero | PHID chat -m TINY",
])
def test_endless_input_is_an_error(line):
    start = time.monotonic()
    code, out, error = shell(f"ulimit -v 4000000; {line}" if PATIENCE == 1 else line)
    assert code == 1 and out == "" and error.count("\n") == 1 and "larger than" in error or "longer than" in error, error
    assert time.monotonic() - start < 20 * PATIENCE


@pytest.mark.parametrize("flags", [[], ["--decode"], ["--chat"], ["--special"]], ids=str)
def test_noise_is_an_error(flags):
    rng = random.Random(3)
    for size in (1, 10, 1000, 100000):
        code, out, error = run("tokenize", "-m", TINY, *flags, input=rng.randbytes(size))
        assert code == 1 and "line 1" in error, (size, error)
    for text in (b"[" * 1000000, b'{"a":' * 100000, b'"' + b"\xff" * 100 + b'"', b'"\\ud800"', b"\0\n", b"\n", b"nul", b"1e999", b'"a'):
        assert run("tokenize", "-m", TINY, *flags, input=text)[0] == 1, text[:20]


@pytest.mark.parametrize("line", [
    "PHID run -m TINY Count -n 200 | head -c 1", "PHID eval -m TINY --tokens 1,2,3 --logits all | head -c 1",
    "PHID inspect -m TINY --json --full | head -c 1", "yes '\"a\"' | PHID tokenize -m TINY | head -c 1", "PHID help | head -c 1",
])
def test_a_reader_that_has_enough_ends_the_program(line):
    start = time.monotonic()
    code, out, error = shell(line)
    assert len(out) <= 1 and error == "", error
    assert time.monotonic() - start < 10 * PATIENCE


@pytest.mark.parametrize("command", [
    "run -m TINY Count -n 5", "run -m TINY Count -n 5 --json", "eval -m TINY --tokens 1", "inspect -m TINY", "inspect -m TINY --json",
    "tokenize -m TINY <<<'\"a\"'", "chat -m TINY <<<hello", "help", "version", "pull --list",
])
def test_output_that_cannot_be_written_is_one_error(command):
    for where, reason in ((">/dev/full", "No space left"), (">&-", "Bad file descriptor")):
        code, _, error = shell(f"PHID {command} {where}")
        assert code == 1 and error.startswith("phid: error: ") and error.count("\n") == 1 and reason in error, error


# -------------------------------------------------------------- many at once

def test_five_hundred_clients_come_and_go(tiny_server):
    """At every moment of a request, by closing and by resetting. The others are served all the while, and nothing stays behind."""
    import concurrent.futures
    import struct
    rng = random.Random(5)
    slowest = [0.0]
    done = threading.Event()

    def descriptors():
        return len(os.listdir(f"/proc/{tiny_server.process.pid}/fd"))

    before = descriptors()  # with idle connections of clients in other tests

    def watch():
        while not done.is_set():
            start = time.monotonic()
            assert send(tiny_server, "GET", "/health")[0] == 200
            slowest[0] = max(slowest[0], time.monotonic() - start)
            time.sleep(0.02)

    def come_and_go(seed):
        rng = random.Random(seed)
        body = {"model": "tiny", "prompt": rng.choice(["Count", [300] * 10, [300] * 600]), "max_tokens": 3000, "ignore_eos": True,
                "stream": rng.random() < 0.6, "n": rng.choice([1, 1, 3]), "logprobs": rng.choice([None, 5])}
        data = request("POST", COMPLETIONS, body)
        with tiny_server.connect(20) as s:
            s.sendall(data[:rng.randrange(1, len(data))] if rng.random() < 0.15 else data)
            time.sleep(rng.choice([0, 0.001, 0.01, 0.05]))
            if rng.random() < 0.4:
                s.settimeout(0.2)
                try:
                    s.recv(rng.choice([1, 100, 65536]))
                except OSError:
                    pass
            if rng.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def idle():
        health = json.loads(send(tiny_server, "GET", "/health")[2])
        return health["running"] == 0 and health["waiting"] == 0 and descriptors() <= before + 10

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, [rng.random() for _ in range(500)]))
    end = time.monotonic() + 10 * PATIENCE
    while not idle() and time.monotonic() < end:
        time.sleep(0.05)
    done.set()
    watcher.join()
    assert idle() and slowest[0] < 5 * PATIENCE, slowest
    assert parse(tiny_server.raw(request("POST", CHAT, GOOD)))[0] == 200
