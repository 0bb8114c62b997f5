#!/usr/bin/env python3
"""How far a model's ordinary path is from the exact one: relative RMS and KL divergence of the logits of a text.

    tests/bench/accuracy.py -m MODEL.gguf [--text FILE] [--tokens N] [--json] [--variant NAME=KEY=VALUE[,KEY=VALUE..]]...
    tests/bench/accuracy.py -m MODEL.gguf --peer NAME=FILE [--peer NAME=FILE]... [--variant ...]

The exact path has f32 activations and KV and decodes weights to f32 (`phid eval --exact`). Each variant is the ordinary path
with some keys of the configuration set; without any: as it is, with int8 KV, with one and with two int8 terms of an
activation, with bf16 (int8 where there is no AMX), with w8a8 (likewise without VNNI). Needs numpy.

--peer: beside them stands another program, whose logits of the same file are in FILE, as
`llama-perplexity -m MODEL.gguf -f TEXT -c 256 -b 256 --chunks 1 --save-all-logits FILE` writes them (TEXT of 512 tokens or more). Tokens
and positions are then the file's. It holds log-probabilities down to 16 below the largest, so that is what is compared, of all.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHID = os.environ.get("PHID_BIN", str(ROOT / "build" / "phid"))
VARIANTS = ["ordinary=", "kv-int8=engine.kv.type=int8", *(f"{name}=engine.activations={name}" for name in ("int8", "int8x2", "bf16", "w8a8"))]
CHUNK = 64  # rows compared at once


def run(*arguments, stdin=None):
    done = subprocess.run([PHID, *map(str, arguments)], input=stdin, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr.decode(errors="replace").strip() or f"{PHID} failed")
    return done.stdout


def tokens_of(model, text, count):
    ids = json.loads(run("tokenize", "-m", model, "--bos", stdin=(json.dumps(text) + "\n").encode()))
    return ids[:count]


def logits_of(model, tokens, flags, file):
    """f32 [tokens, vocabulary], in a file: a vocabulary can be large."""
    with open(file, "wb") as out:
        command = [PHID, "eval", "-m", model, "--tokens", ",".join(map(str, tokens)), "--logits", "all", "--format", "f32",
                   "--context", str(max(len(tokens), 8)), *flags]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(done.stderr.decode(errors="replace").strip())
    return np.memmap(file, "<f4", "r").reshape(len(tokens), -1)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def compare(got, exact):
    """Relative RMS over all logits; mean and largest KL(exact || got) of a position, in nats; how often the first one agrees."""
    square = total = 0.0
    divergence, same = [], 0
    for at in range(0, len(exact), CHUNK):
        a, b = got[at:at + CHUNK].astype(np.float64), exact[at:at + CHUNK].astype(np.float64)
        square += ((a - b) ** 2).sum()
        total += (b ** 2).sum()
        log_a, log_b = log_softmax(a), log_softmax(b)
        divergence.extend((np.exp(log_b) * (log_b - log_a)).sum(axis=1))
        same += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
    return {"relative_rms": float(np.sqrt(square / total)), "kl_mean": float(np.mean(divergence)),
            "kl_max": float(np.max(divergence)), "top1": same / len(exact)}


def peer_of(file):
    """Tokens of the first chunk, the first position that has logits, and log-probabilities [positions, vocabulary]."""
    raw = pathlib.Path(file).read_bytes()
    context, vocabulary, chunks = np.frombuffer(raw, "<i4", 3, 8)
    if raw[:8] != b"_logits_" or context < 4 or vocabulary < 1 or chunks < 1:
        sys.exit(f"{file}: not what llama-perplexity --save-all-logits writes")
    tokens = np.frombuffer(raw, "<i4", context, 20).tolist()
    first = context // 2
    # A row: the step and the least value as f32, then the vocabulary in such steps; an even number of 16-bit words.
    row, count = 2 * ((vocabulary + 1) // 2) + 4, context - 1 - first
    words = np.frombuffer(raw, "<u2", count * row, 20 + 4 * context * chunks).reshape(count, row)
    scales = np.ascontiguousarray(words[:, :4]).view("<f4").astype(np.float64)
    return tokens, int(first), scales[:, 1:] + scales[:, :1] * words[:, 4:4 + vocabulary]


def as_kept(logits):
    """Log-probabilities no further than 16 below the largest, as in such a file."""
    logits = logits.astype(np.float64)
    kept = np.maximum(logits, logits.max(axis=1, keepdims=True) - 16)
    return kept - logits.max(axis=1, keepdims=True) - np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))


def measure_beside(model, files, variants):
    """The same for our variants and for peers, on the peers' tokens and positions."""
    peers = {name: peer_of(file) for name, file in files.items()}
    tokens, first, _ = next(iter(peers.values()))
    if any(other[0] != tokens for other in peers.values()):
        sys.exit("the peers' files are not of the same text")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        def kept(flags, name):
            return as_kept(logits_of(model, tokens, flags, pathlib.Path(folder) / name)[first:len(tokens) - 1])
        exact = kept(["--exact"], "exact")
        for name, (_, _, got) in peers.items():
            results[name] = compare(got, exact)
        for variant in variants:
            name, _, keys = variant.partition("=")
            results[name] = compare(kept([part for key in keys.split(",") if key for part in ("--set", key)], "other"), exact)
    return len(exact), results


def measure(model, tokens, variants):
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        exact = logits_of(model, tokens, ["--exact"], pathlib.Path(folder) / "exact")
        for variant in variants:
            name, _, keys = variant.partition("=")
            flags = [part for key in keys.split(",") if key for part in ("--set", key)]
            results[name] = compare(logits_of(model, tokens, flags, pathlib.Path(folder) / "other"), exact)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "README.md", help="UTF-8 (README.md)")
    parser.add_argument("--tokens", type=int, default=256, help="of the text, at most (256)")
    parser.add_argument("--variant", action="append", metavar="NAME=KEY=VALUE", help="repeatable")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE", help="logits of another program; repeatable")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    variants = wanted.variant or VARIANTS
    if wanted.peer:
        count, results = measure_beside(wanted.model, dict(peer.split("=", 1) for peer in wanted.peer), variants)
        source = "the peers' text"
    else:
        tokens = tokens_of(wanted.model, wanted.text.read_text(encoding="utf-8"), wanted.tokens)
        count, source, results = len(tokens), wanted.text.name, measure(wanted.model, tokens, variants)
    if wanted.json:
        print(json.dumps({"tokens": count, "variants": results}))
        return
    print(f"{count} tokens of {source}, against the exact path")
    print(f"{'':16} {'relative RMS':>12} {'KL mean':>10} {'KL largest':>10} {'same first':>10}")
    for name, r in results.items():
        print(f"{name:16} {r['relative_rms']:12.2e} {r['kl_mean']:10.2e} {r['kl_max']:10.2e} {r['top1']:10.1%}")


if __name__ == "__main__":
    main()
