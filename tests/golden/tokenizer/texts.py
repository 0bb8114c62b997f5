"""Random Unicode strings for comparing tokenizers: seeded, so a failure can be made again."""
import random

SPACES = [" ", "  ", "   ", "     ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028",
          "\u200b", "\u180e", "\x0b", "\x0c"]
WORDS = ["the", "Hello", "world", "capital", "Paris", "don't", "WE'LL", "it's", "I'm", "you've", "they'd", "naïve",
         "Straße", "Übergrößenträger", "fiancée", "İstanbul", "def", "return", "for(i=0;i<n;++i)", "x86_64",
         "https://example.com/a?b=c&d=%20", "user@example.org", "3.14159", "1,000,000", "0x1F", "12345678901234567890",
         "½", "²³", "Ⅷ", "٣٤", "१२३", "①", "привет", "Здравствуйте", "γειά", "שלום", "مرحبا", "नमस्ते", "ไทย",
         "日本語", "こんにちは", "中文分词", "안녕하세요", "e\u0301", "a\u0308\u0323", "ﬁ", "\u1e9b\u0323",
         "😀", "👍🏽", "👨‍👩‍👧‍👦", "🇫🇷", "❤️", "🦙", "𝒳", "𠮷", "\ufeff", "\u200d", "\u202e", "\ufffd", "\ue000",
         "<|user|", "|end|>", "<0x41>", "<s>", "▁", "▁▁", "▁the", "Ġ", "Ċ", "aaaaaaaaaa", "========", "........",
         "--------------------", "\\n", "\"quoted\"", "'single'", "''s", "(){}[]", "#include <stdio.h>"]
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0xA1, 0x17F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
          (0x590, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0xE01, 0xE3A), (0x1100, 0x11FF), (0x2000, 0x206F),
          (0x20A0, 0x20BF), (0x2100, 0x214F), (0x2190, 0x21FF), (0x2500, 0x257F), (0x3041, 0x30FF), (0x4E00, 0x9FA5),
          (0xAC00, 0xD7A3), (0x1F300, 0x1F64F), (0x1D400, 0x1D7FF), (0x01, 0x1F), (0x20000, 0x2A6D6)]
SPECIAL = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>", "</s>", "<s>", "<unk>",
           "<|placeholder1|>", "<|placeholder6|>"]


def _part(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(WORDS)
    if kind < 0.6:
        return rng.choice(SPACES[:4] if rng.random() < 0.8 else SPACES) * rng.choice([1, 1, 1, 2, 5])
    low, high = rng.choice(RANGES)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))


def plain(seed, count, most=12):
    """`count` strings of up to `most` parts without control tokens."""
    rng = random.Random(seed)
    out = ["", " ", "  ", "\n", "a", " a", "a ", "<|end|>", "<|user|>\n", "\u00a0x", "1 2  3", "\t\t\tx"]
    while len(out) < count:
        out.append("".join(_part(rng) for _ in range(rng.randint(1, most))))
    return [text.replace("</s>", "") for text in out[:count]]


def special(seed, count, most=10, tokens=SPECIAL):
    """`count` strings with control tokens among the parts."""
    rng = random.Random(seed)
    return ["".join(rng.choice(tokens) if rng.random() < 0.35 else _part(rng) for _ in range(rng.randint(1, most)))
            for _ in range(count)]


def any_scalar(seed, count):
    """Short strings of any Unicode scalar values, assigned or not (U+0000 left out)."""
    rng = random.Random(seed)

    def character():
        while True:
            c = rng.randrange(1, 0x110000) if rng.random() < 0.5 else rng.randrange(1, 0x3000)
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    return ["".join(character() for _ in range(rng.randint(1, 12))) for _ in range(count)]
