"""A second reference: the forward pass of a phi3 or llama GGUF in numpy float64, with nothing clever in it.

It reads the file as an engine does (metadata, tensors in any type the gguf package decodes) and is itself
checked against the Hugging Face logits in references.npz.
"""
import gguf
import numpy as np


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(str(path))
        self.meta = {name: field.contents() for name, field in reader.fields.items()}
        self.arch = self.meta["general.architecture"]
        self.t = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
        self.layers = self.key("block_count")
        self.heads = self.key("attention.head_count")
        self.kv_heads = self.key("attention.head_count_kv")
        self.eps = self.key("attention.layer_norm_rms_epsilon")
        self.head = self.key("attention.key_length", self.key("embedding_length") // self.heads)
        self.rotary = self.key("rope.dimension_count", self.head)

    def key(self, name, otherwise=None):
        return self.meta.get(f"{self.arch}.{name}", otherwise)

    def rotation(self, n):
        """cos and sin, [position, pair]; the factor set is that of the whole sequence."""
        f = self.t.get("rope_freqs.weight", 1.0)
        if "rope_factors_long.weight" in self.t:
            beyond = n > self.key("rope.scaling.original_context_length")
            f = self.t[f"rope_factors_{'long' if beyond else 'short'}.weight"]
        frequency = 1.0 / (f * self.key("rope.freq_base") ** (np.arange(0, self.rotary, 2) / self.rotary))
        angle = np.arange(n)[:, None] * frequency
        m = self.key("rope.scaling.attn_factor", 1.0)
        return m * np.cos(angle), m * np.sin(angle)

    def rotate(self, x, cos, sin):
        """x: [position, head, dim]. phi3 rotates (i, i + rotary/2), llama (2i, 2i + 1)."""
        half = self.rotary // 2
        pairs = (slice(0, half), slice(half, 2 * half))
        if self.arch == "llama":
            pairs = (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        cos, sin = cos[:, None], sin[:, None]
        a, b = x[..., pairs[0]], x[..., pairs[1]]
        out = x.copy()
        out[..., pairs[0]], out[..., pairs[1]] = a * cos - b * sin, a * sin + b * cos
        return out

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.t[name]

    def mask(self, n):
        distance = np.arange(n)[:, None] - np.arange(n)
        window = self.key("attention.sliding_window", 0)
        return (distance >= 0) & ((distance < window) if window else True)

    def attention(self, x, block, cos, sin):
        n = len(x)
        if block + "attn_qkv.weight" in self.t:
            qkv = x @ self.t[block + "attn_qkv.weight"].T
            q, k, v = np.split(qkv, [self.heads * self.head, (self.heads + self.kv_heads) * self.head], axis=1)
        else:
            q, k, v = (x @ self.t[f"{block}attn_{name}.weight"].T for name in "qkv")
        q = self.rotate(q.reshape(n, self.heads, self.head), cos, sin)
        k = self.rotate(k.reshape(n, self.kv_heads, self.head), cos, sin)
        v = v.reshape(n, self.kv_heads, self.head)
        group = self.heads // self.kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head)
        score = np.where(self.mask(n), score, -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weight, v).reshape(n, -1)
        return mixed @ self.t[block + "attn_output.weight"].T

    def feed_forward(self, x, block):
        up = x @ self.t[block + "ffn_up.weight"].T
        if block + "ffn_gate.weight" in self.t:
            gate = x @ self.t[block + "ffn_gate.weight"].T
        else:
            gate, up = np.split(up, 2, axis=1)
        return (gate / (1 + np.exp(-gate)) * up) @ self.t[block + "ffn_down.weight"].T

    def logits(self, tokens):
        """[position, vocabulary] for the whole sequence, run at once."""
        x = self.t["token_embd.weight"][tokens]
        cos, sin = self.rotation(len(tokens))
        for i in range(self.layers):
            block = f"blk.{i}."
            x = x + self.attention(self.norm(x, block + "attn_norm.weight"), block, cos, sin)
            x = x + self.feed_forward(self.norm(x, block + "ffn_norm.weight"), block)
        head = self.t.get("output.weight", self.t["token_embd.weight"])
        return self.norm(x, "output_norm.weight") @ head.T

    def greedy(self, tokens, n):
        """n tokens, each from a fresh run of the whole sequence: what a re-prefill at the border amounts to."""
        tokens = list(tokens)
        for _ in range(n):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[-n:]


def relative_rms(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.sqrt(((got - want) ** 2).mean() / (want ** 2).mean()))
