"""Tiny random models for the logit tests, made again from their names alone.

No weights are stored. Every tensor comes from a splitmix64 counter generator seeded by "case/tensor", and every
step up to the final float is integer arithmetic, so any machine makes the same file bit for bit. Needs only
numpy and gguf.

Tensors are made under their Hugging Face names (`state_dict`) and written to GGUF as the converters do:
phi3 keeps fused qkv and gate_up; llama has its q and k rows reordered to interleaved rotary pairs.
"""
import dataclasses
import math

import gguf
import numpy as np

VOCAB = 320
PAGE = 64  # tokens of a KV page; some sequences cross it
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
QUANT = gguf.GGMLQuantizationType


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    arch: str = "phi3"
    hidden: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 0            # 0: hidden / heads
    ff: int = 512
    rotary: float = 1.0          # part of the head that is rotated
    theta: float = 10000.0
    eps: float = 1e-5
    tied: bool = False
    window: int = 0              # 0: none
    context: int = 512
    original: int = 0            # 0: context; otherwise LongRoPE above it
    attention_factor: float = 0  # 0: the formula of LongRoPE
    llama3: tuple = ()           # (factor, low, high, original context): Llama 3.1's frequency scaling
    type: str = "f32"
    lengths: tuple = (8, PAGE + 3)
    generate: tuple = ()         # (prompt length, new tokens): greedy continuation

    @property
    def head(self):
        return self.head_dim or self.hidden // self.heads

    @property
    def rotary_dim(self):
        return int(self.head * self.rotary)

    @property
    def scale(self):
        return self.context / self.original if self.original else 1.0

    @property
    def factor(self):
        """What cos and sin are multiplied by."""
        if self.scale <= 1:
            return 1.0
        return self.attention_factor or math.sqrt(1 + math.log(self.scale) / math.log(self.original))


def _cases():
    long = {"context": 1024, "original": 32, "lengths": (8, 31, 32, 33, 100), "generate": (28, 12)}
    yield Case("phi3-mha", hidden=128)
    yield Case("phi3-gqa", kv_heads=2)
    yield Case("phi3-mqa", kv_heads=1, layers=3)
    yield Case("phi3-rotary75", kv_heads=2, rotary=0.75)
    yield Case("phi3-rotary50", rotary=0.5)
    yield Case("phi3-tied", tied=True)
    yield Case("phi3-head96", hidden=192, heads=2, kv_heads=2, ff=256)
    yield Case("phi3-head80", hidden=160, heads=2, kv_heads=1)
    yield Case("phi3-head72", hidden=216, heads=3, kv_heads=3, ff=288)
    yield Case("phi3-ff344", ff=344)
    yield Case("phi3-ff100", hidden=128, ff=100)
    yield Case("phi3-window", kv_heads=2, window=16, lengths=(8, 16, 17, 50, 150))
    yield Case("phi3-window-page", window=70, lengths=(70, 71, 140))
    yield Case("phi3-theta", theta=250000.0, eps=1e-6)
    yield Case("phi3-longrope", kv_heads=2, **long)
    yield Case("phi3-longrope-head96", hidden=192, heads=2, kv_heads=2, **long)
    yield Case("phi3-longrope-tied75", kv_heads=2, rotary=0.75, tied=True, **long)
    yield Case("phi3-longrope-factor", attention_factor=1.3, **{**long, "generate": ()})
    yield Case("phi3-longrope-page", context=2048, original=64, lengths=(64, 65, 129), generate=(60, 10))
    yield Case("llama-mha", "llama", hidden=128)
    yield Case("llama-gqa", "llama", kv_heads=2, layers=3)
    yield Case("llama-mqa", "llama", kv_heads=1, eps=1e-6)
    yield Case("llama-theta", "llama", kv_heads=2, theta=500000.0)
    yield Case("llama-rope3", "llama", kv_heads=2, theta=500000.0, context=8192,
               llama3=(8.0, 1.0, 4.0, 64), lengths=(8, 64, 65, 150))
    yield Case("llama-head96", "llama", heads=4, kv_heads=2, head_dim=96, ff=344)
    yield Case("llama-head80", "llama", hidden=160, heads=2, kv_heads=2, head_dim=80)
    yield Case("llama-tied", "llama", kv_heads=2, tied=True)
    yield Case("llama-ff100", "llama", hidden=128, ff=100)
    for kind in ("f16", "bf16"):
        yield Case(f"phi3-{kind}", kv_heads=2, type=kind)
        yield Case(f"llama-{kind}", "llama", kv_heads=2, type=kind)


CASES = {case.name: case for case in _cases()}


def _seed(text):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def words(name, n):
    """n 64-bit words of the splitmix64 sequence seeded by a name."""
    with np.errstate(over="ignore"):
        z = np.uint64(_seed(name)) + GOLDEN * np.arange(1, n + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * MIX1
        z = (z ^ (z >> np.uint64(27))) * MIX2
        return z ^ (z >> np.uint64(31))


def normal(name, shape, spread, mean=0.0):
    """Nearly Gaussian floats: the sum of a word's four 16-bit parts, centred and scaled."""
    n = int(np.prod(shape))
    parts = words(name, n).view(np.uint16).reshape(n, 4).astype(np.int32).sum(1) - 2 * 65535
    x = parts.astype(np.float32) * np.float32(spread * math.sqrt(3) / 65536)
    return (x + np.float32(mean)).reshape(shape)


def tokens(case, length):
    """The input of that length; a longer one begins with the shorter."""
    return (words(f"{case.name}/tokens", length) % np.uint64(VOCAB)).astype(np.int64).tolist()


def factors(case):
    """(short, long) LongRoPE factors, one for each rotated pair."""
    n = case.rotary_dim // 2
    ramp = np.arange(n, dtype=np.float64) / max(1, n - 1)
    jitter = normal(f"{case.name}/factors", (n,), 0.05).astype(np.float64)
    short = 1.0 + 0.8 * ramp ** 2 + np.abs(jitter)
    long = 1.0 + case.scale * ramp ** 1.5 + np.abs(jitter)
    return short.astype(np.float32), long.astype(np.float32)


def llama3_factors(case):
    """What Llama 3.1's scaling divides each frequency by, as converters store it in rope_freqs.weight."""
    factor, low, high, original = case.llama3
    n = case.rotary_dim // 2
    wave = 2 * np.pi * case.theta ** (np.arange(n) * 2.0 / case.rotary_dim)
    smooth = np.clip((original / wave - low) / (high - low), 0, 1)
    return (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def shapes(case):
    """(Hugging Face name, shape, spread or None for a norm) of every tensor."""
    q, kv, d = case.heads * case.head, case.kv_heads * case.head, case.hidden
    peaked = 1.5 / math.sqrt(d)  # attention that is not flat shows rotary mistakes
    # A tied head would see little but the input token under embeddings of size 1.
    yield "model.embed_tokens.weight", (VOCAB, d), 1 / math.sqrt(d) if case.tied else 1.0
    for i in range(case.layers):
        b = f"model.layers.{i}."
        yield b + "input_layernorm.weight", (d,), None
        yield b + "post_attention_layernorm.weight", (d,), None
        if case.arch == "phi3":
            yield b + "self_attn.qkv_proj.weight", (q + 2 * kv, d), peaked
            yield b + "mlp.gate_up_proj.weight", (2 * case.ff, d), 1 / math.sqrt(d)
        else:
            yield b + "self_attn.q_proj.weight", (q, d), peaked
            yield b + "self_attn.k_proj.weight", (kv, d), peaked
            yield b + "self_attn.v_proj.weight", (kv, d), peaked
            yield b + "mlp.gate_proj.weight", (case.ff, d), 1 / math.sqrt(d)
            yield b + "mlp.up_proj.weight", (case.ff, d), 1 / math.sqrt(d)
        yield b + "self_attn.o_proj.weight", (d, q), 1 / math.sqrt(q)
        yield b + "mlp.down_proj.weight", (d, case.ff), 1 / math.sqrt(case.ff)
    yield "model.norm.weight", (d,), None
    if not case.tied:
        yield "lm_head.weight", (VOCAB, d), 1 / math.sqrt(d)


def round_to(x, kind):
    """f32 values that the type holds exactly."""
    if kind == "f16":
        return x.astype(np.float16).astype(np.float32)
    if kind == "bf16":
        return gguf.dequantize(gguf.quantize(x, QUANT.BF16), QUANT.BF16)
    return x


def state_dict(case):
    """{Hugging Face name: f32 array}; matrices already rounded to the case's type."""
    out = {}
    for name, shape, spread in shapes(case):
        x = normal(f"{case.name}/{name}", shape, 0.1 if spread is None else spread, 1.0 if spread is None else 0.0)
        out[name] = x if len(shape) == 1 else round_to(x, case.type)
    return out


def interleave(w, heads):
    """Rows of a half-split rotary projection in the order of interleaved pairs."""
    rows, columns = w.shape
    return w.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_tensors(case):
    """{GGUF name: f32 array} in the file's order."""
    out = {}
    if case.original and case.scale > 1:
        out["rope_factors_short.weight"], out["rope_factors_long.weight"] = factors(case)
    if case.llama3:
        out["rope_freqs.weight"] = llama3_factors(case)
    for name, x in state_dict(case).items():
        if name == "model.embed_tokens.weight":
            out["token_embd.weight"] = x
        elif name == "model.norm.weight":
            out["output_norm.weight"] = x
        elif name == "lm_head.weight":
            out["output.weight"] = x
        else:
            _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
            if case.arch == "llama" and rest in ("self_attn.q_proj", "self_attn.k_proj"):
                x = interleave(x, case.heads if rest == "self_attn.q_proj" else case.kv_heads)
            out[f"blk.{layer}.{GGUF_NAMES[rest]}.weight"] = x
    return out


def vocabulary():
    """A least valid SentencePiece vocabulary: 3 special tokens, 256 bytes, 61 single characters."""
    kinds = gguf.TokenType
    single = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567"
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *single]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(single)]
    scores = [0.0] * 259 + [float(-i) for i in range(len(single))]
    assert len(texts) == VOCAB
    return texts, scores, [int(t) for t in types]


def add_metadata(w, case, file_type):
    w.add_name(case.name)
    w.add_context_length(case.context)
    w.add_embedding_length(case.hidden)
    w.add_feed_forward_length(case.ff)
    w.add_block_count(case.layers)
    w.add_head_count(case.heads)
    w.add_head_count_kv(case.kv_heads)
    w.add_layer_norm_rms_eps(case.eps)
    w.add_rope_dimension_count(case.rotary_dim)
    w.add_rope_freq_base(case.theta)
    if case.arch == "phi3":
        w.add_rope_scaling_orig_ctx_len(case.original or case.context)
        w.add_sliding_window(case.window)
        if case.original and case.scale > 1:
            w.add_rope_scaling_attn_factors(case.factor)
    else:
        w.add_vocab_size(VOCAB)
        if case.head_dim:
            w.add_key_length(case.head)
            w.add_value_length(case.head)
    w.add_file_type(file_type)
    texts, scores, types = vocabulary()
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(texts)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.add_add_eos_token(False)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)


ENCODED = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4", "tq2_0", "tq1_0")  # types the gguf package can encode
# Types made of random codes: (weights, bytes of a block, {offset of an f16 scale: value for spread 1}).
# The values give about the spread asked for and centre the codes on zero.
IQ1_M = -1  # its scale lies in the upper four bits of the last four words, lowest first
RANDOM = {
    "iq4_nl": (32, 18, {0: 1 / 69}),
    "q2_k": (256, 84, {80: 1 / 14, 82: 1.5 / 14}),
    "q3_k": (256, 110, {108: 1 / (2.3 * 18)}),
    "q4_k": (256, 144, {0: 1 / (16 * 16.5), 2: 7.5 / (16 * 16.5)}),
    "q5_k": (256, 176, {0: 1 / (32 * 16.5), 2: 15.5 / (32 * 16.5)}),
    "q6_k": (256, 210, {208: 1 / (18.5 * 74)}),
    "iq4_xs": (256, 136, {0: 1 / (69 * 18)}),
    "iq3_s": (256, 110, {0: 1 / 166}),
    "iq3_xxs": (256, 98, {0: 1 / 150}),
    "iq2_s": (256, 82, {0: 1 / 46}),
    "iq2_xs": (256, 74, {0: 1 / 46}),
    "iq2_xxs": (256, 66, {0: 1 / 46}),
    "iq1_s": (256, 50, {0: 1 / 7.4}),
    "iq1_m": (256, 56, {IQ1_M: 1 / 7.4}),
}
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12,
              "q4_k": 14, "q4_k_m": 15, "q5_k": 16, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32,
              "iq2_xxs": 19, "iq2_xs": 20, "iq3_xxs": 23, "iq1_s": 24, "iq3_s": 26, "iq2_s": 28, "iq1_m": 31, "tq1_0": 36, "tq2_0": 37,
              "mxfp4": 38}


def random_blocks(name, shape, kind, spread):
    size, block_bytes, scales = RANDOM[kind]
    count = int(np.prod(shape)) // size
    raw = words(name, count * ((block_bytes + 7) // 8)).view(np.uint8).reshape(count, -1)[:, :block_bytes].copy()
    for at, value in scales.items():
        half = np.frombuffer(np.float16(value * spread).tobytes(), np.uint8)
        if at == IQ1_M:
            raw[:, -7::2] = raw[:, -7::2] & 15 | np.repeat(half, 2) << np.uint8([4, 0, 4, 0]) & np.uint8(240)
        else:
            raw[:, at:at + 2] = half
    return raw.reshape(*shape[:-1], shape[-1] // size * block_bytes)


def mixed(name, layer_of):
    """Q4_K_M: the head and some value-carrying tensors in Q6_K, the rest in Q4_K."""
    if name == "output.weight":
        return "q6_k"
    return "q6_k" if ("attn_qkv" in name or "attn_v" in name or "ffn_down" in name) and layer_of == 0 else "q4_k"


def encode(case, name, x, kind):
    """(data, type) of one matrix in the file."""
    if kind == "q4_k_m":
        kind = mixed(name, int(name.split(".")[1]) if name.startswith("blk.") else -1)
    if kind in RANDOM:
        spread = 1.0 if name == "token_embd.weight" and not case.tied else 1.0 / math.sqrt(x.shape[1])
        return random_blocks(f"{case.name}/{kind}/{name}", x.shape, kind, spread), QUANT[kind.upper()]
    if kind in ENCODED and x.shape[1] % gguf.GGML_QUANT_SIZES[QUANT[kind.upper()]][0]:
        kind = "f16"  # as quantizers do with rows that are not whole blocks
    if kind in ("f32", "f16"):
        return x.astype(np.float16 if kind == "f16" else np.float32), None
    return gguf.quantize(x, QUANT[kind.upper()]), QUANT[kind.upper()]


def split_qkv(case, tensors):
    """The same tensors with each fused attn_qkv as attn_q, attn_k and attn_v, which some phi3 files have."""
    out = {}
    for name, x in tensors.items():
        if "attn_qkv" in name:
            q, kv = case.heads * case.head, case.kv_heads * case.head
            for part, rows in zip("qkv", np.split(x, [q, q + kv])):
                out[name.replace("attn_qkv", f"attn_{part}")] = rows
        else:
            out[name] = x
    return out


def write(case, path, kind=None, split=False):
    """Write the case as GGUF; its matrices in another type when `kind` says so, qkv in three when `split`."""
    kind = kind or case.type
    w = gguf.GGUFWriter(str(path), case.arch)
    add_metadata(w, case, FILE_TYPES[kind])
    tensors = gguf_tensors(case)
    for name, x in (split_qkv(case, tensors) if split else tensors).items():
        if x.ndim == 1:
            w.add_tensor(name, x)
        else:
            data, raw = encode(case, name, x, kind)
            w.add_tensor(name, data, raw_dtype=raw)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
