#!/usr/bin/env python3
"""Store compact token vectors, made by the `tokenizers` package from the vocabularies inside GGUF files.

Usage: make_tokenizer_vectors.py SMOLLM2.gguf

Writes phi-3.json, tiny.json and smollm2.json beside this file: {"plain": [[text, ids]..], "special": [[text, ids]..]}.
"special" was encoded with control tokens recognised in the text. Before writing, the Phi-3 tokenizer is held
against the published .inp/.out pairs and known prompts.
"""
import json
import pathlib
import sys

import build
import texts

HERE = pathlib.Path(__file__).parent
PHI3 = HERE / "ggml-vocab-phi-3.gguf"
TINY = HERE.parent.parent / "models" / "tiny.gguf"
SMOLLM_SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>"]
# Prompts as the model's own tokenizer encodes them: white space after role tokens is swallowed.
KNOWN = {
    "<|user|>\nHello<|end|>\n<|assistant|>\n": [32010, 15043, 32007, 32001],
    "<|system|>\nYou are a helpful assistant.<|end|>\n<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\n":
        [32006, 887, 526, 263, 8444, 20255, 29889, 32007, 32010, 1724, 338, 278, 7483, 310, 3444, 29973, 32007, 32001],
    "a </s> b": [263, 29871, 2, 289],
    "<|user|>\nWrite a C function.\n\nint f(void);<|end|>\n<|assistant|>\n":
        [32010, 14350, 263, 315, 740, 29889, 13, 13, 524, 285, 29898, 5405, 416, 32007, 32001],
    "<|user|>\n  indented<|end|>\n<|assistant|>\nSure.<|end|>\n<|user|>\n日本語<|end|>\n<|assistant|>\n":
        [32010, 1399, 14927, 32007, 32001, 18585, 29889, 32007, 32010, 29871, 30325, 30346, 30968, 32007, 32001],
}


def published():
    """[(text, ids)] of the .inp/.out pair."""
    inputs = (HERE / "ggml-vocab-phi-3.gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    outputs = (HERE / "ggml-vocab-phi-3.gguf.out").read_text().splitlines()
    return [(text, [int(i) for i in line.split()]) for text, line in zip(inputs, outputs, strict=True)]


def write(name, plain, special, known):
    """Write NAME.json from a tokenizer that sees plain text only and one that knows the control tokens."""
    alone = texts.plain(1, 300, 8)
    mixed = [*known, *texts.special(2, 100, 8, SMOLLM_SPECIAL if name == "smollm2" else texts.SPECIAL)]
    made = {"plain": zip(alone, build.ids(plain, alone)), "special": zip(mixed, build.ids(special, mixed))}
    parts = [f' "{key}": [\n' + ",\n".join("  " + json.dumps(pair) for pair in pairs) + "\n ]"
             for key, pairs in made.items()]
    (HERE / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def main():
    plain, special = build.sentencepiece(PHI3, False), build.sentencepiece(PHI3, True)
    for text, want in published():
        assert build.ids(plain, [text]) == [want], text
    for text, want in KNOWN.items():
        assert build.ids(special, [text]) == [want], text
    write("phi-3", plain, special, KNOWN)
    write("tiny", build.sentencepiece(TINY, False), build.sentencepiece(TINY, True), KNOWN)
    write("smollm2", build.byte_level(sys.argv[1], False), build.byte_level(sys.argv[1], True), ())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
