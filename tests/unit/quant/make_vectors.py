#!/usr/bin/env python3
"""Write format_vectors.bin: blocks of every tensor type and what the `gguf` Python package makes of them.

Needs: numpy and gguf (PyPI); the result is kept in the repository. Usage: make_vectors.py [OUT]

The file is a run of records, all little endian:
    u32 type   u32 n (weights)   u32 bytes   u32 what (0: decode, 1: encode)
    the n / block blocks (`bytes` of them), the n weights as f32
`decode`: random codes under scales that cover zero, subnormal, ordinary and largest halves; the weights are the result.
`encode`: random weights; the blocks are the result (only where encoding has no freedom).
"""
import pathlib
import struct
import sys

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

# Byte offsets of the half floats in a block.
HALVES = {
    "F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
    "IQ1_S": [0], "IQ1_M": [], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0],
    "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [],
}
SCALES = [0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x2e66, 0x211f, 0x9c3a]


def records():
    random = np.random.default_rng(20240229)
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        weights, size = gguf.GGML_QUANT_SIZES[kind]
        count = {1: 64, 32: 16, 256: 6}[weights]
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        blocks[0] = 0x00
        blocks[1] = 0xff
        for i in range(count):
            for at in halves:
                half = SCALES[random.integers(len(SCALES))] if i < 12 else int(random.integers(0x7c00))
                blocks[i, at:at + 2] = np.frombuffer(struct.pack("<H", half), np.uint8)
        if name == "IQ1_M":  # its half lies in the upper four bits of four words
            for i in range(count):
                half = SCALES[random.integers(len(SCALES))]
                for at in range(4):
                    blocks[i, 49 + 2 * at] = (blocks[i, 49 + 2 * at] & 15) | (half >> 4 * at & 15) << 4
        if name in ("F32", "BF16"):  # NaN is tested by itself
            values = random.standard_normal(count).astype("<f4") * np.float32(10) ** random.integers(-38, 38, count)
            values = values.astype("<f4").view("u1").reshape(count, 4)
            blocks = values if name == "F32" else values[:, 2:].copy()
        yield kind, 0, blocks.tobytes(), dequantize(blocks, kind).astype("<f4").ravel()
        if name in ("F32", "F16", "BF16", "Q4_0", "Q5_0", "Q8_0"):
            x = random.standard_normal(8 * weights if weights > 1 else 64).astype("<f4")
            x[::7] *= 100
            if weights > 1:
                x[:weights] = 0
            yield kind, 1, quantize(x.reshape(1, -1), kind).tobytes(), x
        if name in ("TQ1_0", "TQ2_0"):  # what such a type is for: weights that have three values
            x = random.integers(-1, 2, 4 * weights).astype("<f4") * np.repeat(np.float32([1, 0.0625, 3, 0]), weights)
            yield kind, 1, quantize(x.reshape(1, -1), kind).tobytes(), x
        if name == "MXFP4":
            values = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6])
            x = random.choice(values, (4, weights)) * np.float32([[1], [0.03125], [2.0 ** 40], [2.0 ** -100]])
            x[:, 0] = 6 * np.float32([1, 0.03125, 2.0 ** 40, 2.0 ** -100])  # so that nothing is cut off
            x = x.astype("<f4").ravel()
            yield kind, 1, quantize(x.reshape(1, -1), kind).tobytes(), x


def main(path):
    out = bytearray()
    for kind, what, blocks, weights in records():
        out += struct.pack("<4I", int(kind), len(weights), len(blocks), what) + blocks + weights.tobytes()
    pathlib.Path(path).write_bytes(out)
    print(f"{path}: {len(out)} bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("format_vectors.bin"))
