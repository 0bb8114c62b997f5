"""A whole phi3 model of a few kilobytes, as data that a test can take apart before it is written.

Only `struct` is used: what comes out must also be able to be wrong in ways no GGUF library would write.
"""
import math
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q",
           F64: "<d"}
T_F32, T_F16, T_Q4_0, T_Q8_0, T_Q4_K = 0, 1, 2, 8, 12
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
ALIGNMENT = 32


class Raw(bytes):
    """Bytes that stand where a value would, header and all."""


def u32(x):
    return struct.pack("<I", x & 0xffffffff)


def u64(x):
    return struct.pack("<Q", x & 0xffffffffffffffff)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return u64(len(data)) + data


def value(kind, x):
    """A value without its type number. An array is (element kind, list)."""
    if isinstance(x, Raw):
        return bytes(x)
    if kind == STRING:
        return string(x)
    if kind == ARRAY:
        element, items = x
        return u32(element) + u64(len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack(SCALARS[kind], x)


class Tensor:
    def __init__(self, shape, data, kind=T_F32, offset=None):
        self.shape, self.data, self.kind, self.offset = list(shape), data, kind, offset


class Model:
    """Keys and tensors in order. Change them, then call data()."""

    def __init__(self):
        self.magic, self.version = b"GGUF", 3
        self.keys = {}      # name -> (kind, value); names may be bytes
        self.tensors = {}   # name -> Tensor
        self.key_count = self.tensor_count = None  # claim something else than the truth
        self.tail = b""     # raw bytes behind the last key, counted by nobody
        self.cut = None     # bytes taken off the end

    def set(self, name, kind, x):
        self.keys[name] = (kind, x)

    def drop(self, name):
        del self.keys[name]

    def head(self):
        keys = b"".join(string(name) + u32(kind) + value(kind, x) for name, (kind, x) in self.keys.items())
        count = len(self.keys) if self.key_count is None else self.key_count
        tensors = len(self.tensors) if self.tensor_count is None else self.tensor_count
        return self.magic + u32(self.version) + u64(tensors) + u64(count) + keys + self.tail

    def data(self):
        infos, blob = b"", b""
        for name, tensor in self.tensors.items():
            offset = len(blob) if tensor.offset is None else tensor.offset
            infos += (string(name) + u32(len(tensor.shape)) + b"".join(u64(n) for n in tensor.shape) +
                      u32(tensor.kind) + u64(offset))
            blob += tensor.data + bytes(-len(tensor.data) % ALIGNMENT)
        out = self.head() + infos
        if self.tensors:
            out += bytes(-len(out) % ALIGNMENT) + blob
        return out[:-self.cut] if self.cut else out


class Noise:
    """Weights that are the same on every machine."""

    def __init__(self, seed):
        self.state = seed

    def floats(self, count, size):
        out = []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
            out.append(((self.state >> 40) / (1 << 24) - 0.5) * 2 * size)
        return struct.pack(f"<{count}f", *out)


SPECIALS = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]


def vocabulary():
    """Token texts, scores, kinds: a SentencePiece vocabulary with all bytes, letters and Phi's control tokens."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)]
    tokens += [(text, -1.0 - i, NORMAL) for i, text in enumerate("▁ e t a o n he th the ▁the".split())]
    tokens += [(text, -1000.0, CONTROL) for text in SPECIALS]
    return tokens


EMBD, HEADS, FF, LAYERS, CONTEXT = 32, 2, 64, 2, 128
TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
            "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + "
            "'<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")


def model():
    """A valid one."""
    m = Model()
    tokens = vocabulary()
    vocab = len(tokens)
    m.set("general.architecture", STRING, "phi3")
    m.set("general.name", STRING, "hostile base")
    m.set("phi3.context_length", U32, CONTEXT)
    m.set("phi3.rope.scaling.original_context_length", U32, CONTEXT)
    m.set("phi3.embedding_length", U32, EMBD)
    m.set("phi3.feed_forward_length", U32, FF)
    m.set("phi3.block_count", U32, LAYERS)
    m.set("phi3.attention.head_count", U32, HEADS)
    m.set("phi3.attention.head_count_kv", U32, HEADS)
    m.set("phi3.attention.layer_norm_rms_epsilon", F32, 1e-5)
    m.set("phi3.rope.dimension_count", U32, EMBD // HEADS)
    m.set("phi3.rope.freq_base", F32, 10000.0)
    m.set("tokenizer.ggml.model", STRING, "llama")
    m.set("tokenizer.ggml.pre", STRING, "default")
    m.set("tokenizer.ggml.tokens", ARRAY, (STRING, [t[0] for t in tokens]))
    m.set("tokenizer.ggml.scores", ARRAY, (F32, [t[1] for t in tokens]))
    m.set("tokenizer.ggml.token_type", ARRAY, (I32, [t[2] for t in tokens]))
    m.set("tokenizer.ggml.bos_token_id", U32, 1)
    m.set("tokenizer.ggml.eos_token_id", U32, vocab - len(SPECIALS))
    m.set("tokenizer.ggml.unknown_token_id", U32, 0)
    m.set("tokenizer.ggml.padding_token_id", U32, vocab - len(SPECIALS))
    m.set("tokenizer.ggml.add_bos_token", BOOL, 0)
    m.set("tokenizer.chat_template", STRING, TEMPLATE)

    noise = Noise(1)

    def matrix(name, rows, columns):
        m.tensors[name] = Tensor([columns, rows], noise.floats(rows * columns, 1 / math.sqrt(columns)))

    def vector(name, size):
        m.tensors[name] = Tensor([size], struct.pack(f"<{size}f", *[1.0] * size))

    matrix("token_embd.weight", vocab, EMBD)
    for i in range(LAYERS):
        vector(f"blk.{i}.attn_norm.weight", EMBD)
        matrix(f"blk.{i}.attn_qkv.weight", 3 * EMBD, EMBD)
        matrix(f"blk.{i}.attn_output.weight", EMBD, EMBD)
        vector(f"blk.{i}.ffn_norm.weight", EMBD)
        matrix(f"blk.{i}.ffn_up.weight", 2 * FF, EMBD)
        matrix(f"blk.{i}.ffn_down.weight", EMBD, FF)
    vector("output_norm.weight", EMBD)
    matrix("output.weight", vocab, EMBD)
    return m
