#!/usr/bin/env python3
"""Write the seeds of corpus/gguf/: small files that between them hold every key type, tensor type and tokenizer; and
of corpus/quant/: bytes to take for blocks of weights.

Usage: make_corpus.py [FOLDER]
"""
import pathlib
import random
import sys

import hostile_gguf
import tiny_gguf as g

SIZE_MAX = 12000  # a fuzzer likes small ones


def every_key_type():
    m = g.Model()
    for kind in g.SCALARS:
        m.set(f"scalar.{kind}", kind, 1)
        m.set(f"array.{kind}", g.ARRAY, (kind, [0, 1, 1]))
    m.set("text", g.STRING, "text \u4e16")
    m.set("texts", g.ARRAY, (g.STRING, ["", "a", "bc"]))
    m.set("general.alignment", g.U32, 32)
    return m


def every_tensor_type():
    m = g.Model()
    sizes = {0: (4, 4), 1: (4, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
             11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98),
             19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56), 30: (4, 2), 34: (256, 54),
             35: (256, 66), 39: (32, 17)}
    for kind, (weights, size) in sizes.items():
        blocks = 2 if weights > 4 else 8  # two rows
        m.tensors[f"t{kind}"] = g.Tensor([weights, 2], (bytes(range(200)) * 4)[:blocks * size], kind)
    return m


def vocabulary_only(family):
    m = g.model()
    m.tensors.clear()
    if family == "gpt2":
        letters = [chr(c) for c in range(33, 127)] + ["\u0120", "\u010a", "he", "\u0120t"]
        m.set("tokenizer.ggml.model", g.STRING, "gpt2")
        m.set("tokenizer.ggml.pre", g.STRING, "gpt-2")
        m.set("tokenizer.ggml.tokens", g.ARRAY, (g.STRING, [*letters, "<|user|>"]))
        m.set("tokenizer.ggml.token_type", g.ARRAY, (g.I32, [g.NORMAL] * len(letters) + [g.CONTROL]))
        m.set("tokenizer.ggml.merges", g.ARRAY, (g.STRING, ["h e", "\u0120 t"]))
        m.drop("tokenizer.ggml.scores")
        for name in ("bos", "eos", "unknown", "padding"):
            m.set(f"tokenizer.ggml.{name}_token_id", g.U32, len(letters))
    return m


def small_model():
    """The whole thing with 8-bit matrices."""
    m = g.model()
    for tensor in m.tensors.values():
        if len(tensor.shape) == 2:
            tensor.kind, tensor.data = g.T_Q8_0, bytes(range(34)) * (tensor.shape[0] * tensor.shape[1] // 32)
    return m


def write_blocks(folder):
    """Random bytes; the same without the bits that make a half float infinite; all alike."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(7).randbytes(1200)
    seeds = {"noise": noise, "finite": bytes(b & 0xbb for b in noise), "ones": b"\xff" * 300, "zeros": bytes(300)}
    for name, data in seeds.items():
        (folder / f"{name}.bin").write_bytes(data)
    print(f"{len(seeds)} files in {folder}")


def main(folder):
    write_blocks(folder.with_name("quant"))
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {"key_types": every_key_type(), "tensor_types": every_tensor_type(), "vocab_llama": vocabulary_only("llama"),
             "vocab_gpt2": vocabulary_only("gpt2"), "model_q8_0": small_model()}
    for name, m in seeds.items():
        (folder / f"{name}.gguf").write_bytes(m.data())
    # Broken ones whose break is in the bytes: of each kind the first, as long as it is small.
    seen = set()
    for name, (stage, _, _) in hostile_gguf.CASES.items():
        kind = name.split("_")[0]
        if stage == "file" and kind not in seen:
            data = hostile_gguf.build(name)
            if len(data) <= SIZE_MAX:
                seen.add(kind)
                (folder / f"{name}.gguf").write_bytes(data)
    print(f"{len(seeds) + len(seen)} files in {folder}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("corpus") / "gguf")
