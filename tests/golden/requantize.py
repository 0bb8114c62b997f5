#!/usr/bin/env python3
"""Write a GGUF again with its matrices in another type, by plain round-to-nearest.

Usage: requantize.py IN.gguf OUT.gguf TYPE        TYPE: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k

Good enough for tests: the gguf package encodes all but Q4_K, which is encoded here without a search for better
scales. Rows that are not whole blocks stay as they are.
"""
import sys

import gguf
import numpy as np

QUANT = gguf.GGMLQuantizationType
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q4_k": 14, "bf16": 32}


def encode_q4_k(x):
    """Rows of f32 to rows of Q4_K bytes: 8 blocks of 32 with 6-bit scales and minima of one f16 pair each 256."""
    b = x.astype(np.float32).reshape(-1, 8, 32)
    low = np.minimum(b.min(2), 0)
    scale = (b.max(2) - low) / 15
    half = lambda v: (v.max(1) / 63).astype(np.float16)
    d, m = half(scale), half(-low)
    divide = lambda a, by: np.where(by == 0, 0, a / np.where(by == 0, 1, by))
    sc = divide(scale, d.astype(np.float32)[:, None]).round().clip(0, 63)
    mn = divide(-low, m.astype(np.float32)[:, None]).round().clip(0, 63)
    step, floor = (sc * d.astype(np.float32)[:, None])[..., None], (mn * m.astype(np.float32)[:, None])[..., None]
    q = divide(b + floor, np.broadcast_to(step, b.shape)).round().clip(0, 15).astype(np.uint8)
    sc, mn = sc.astype(np.uint8), mn.astype(np.uint8)
    packed = np.concatenate([sc[:, :4] | (sc[:, 4:] >> 4) << 6, mn[:, :4] | (mn[:, 4:] >> 4) << 6,
                             (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4], axis=1)
    codes = (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)
    blocks = np.concatenate([d[:, None].view(np.uint8), m[:, None].view(np.uint8), packed, codes], axis=1)
    return blocks.reshape(*x.shape[:-1], -1)


def encode(x, kind):
    """(data, raw type) as GGUFWriter.add_tensor wants them."""
    size, _ = gguf.GGML_QUANT_SIZES[QUANT[kind.upper()]]
    if x.ndim == 1 or x.shape[-1] % size:
        return x, None
    if kind == "q4_k":
        return encode_q4_k(x), QUANT.Q4_K
    return gguf.quantize(x, QUANT[kind.upper()]), QUANT[kind.upper()]


def requantize(source, target, kind):
    reader = gguf.GGUFReader(str(source))
    w = gguf.GGUFWriter(str(target), reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = FILE_TYPES[kind] if name == "general.file_type" else field.contents()
        inner = field.types[1] if len(field.types) > 1 else None
        w.add_key_value(name, value, field.types[0], inner)
    for t in reader.tensors:
        data, raw = encode(gguf.dequantize(t.data, t.tensor_type), kind)
        w.add_tensor(t.name, data, raw_dtype=raw)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in FILE_TYPES:
        sys.exit(__doc__)
    requantize(*sys.argv[1:])
