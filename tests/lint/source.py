"""The tree as the lint tests see it: its C files, their includes and functions, with comments and strings blanked out."""
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("config", "quant", "engine", "server", "tests")


@functools.cache
def c_files():
    """All C sources and headers, as paths relative to the root."""
    found = []
    for folder in FOLDERS:
        for pattern in ("*.c", "*.h"):
            found += [p.relative_to(ROOT) for p in (ROOT / folder).rglob(pattern)]
    return sorted(found)


def product_files():
    return [p for p in c_files() if p.parts[0] != "tests"]


@functools.cache
def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def code(path):
    """The text with comments, strings and character constants turned into spaces, line breaks kept."""
    pattern = r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text(path), flags=re.S)


def includes(path):
    """(line, name, quoted) of every #include."""
    out = []
    for number, line in enumerate(text(path).splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if match:
            out.append((number, match[2], match[1] == '"'))
    return out


def functions(path):
    """(name, first line, lines) of every function body that opens with `{` in the first column."""
    lines = code(path).splitlines()
    out, start = [], None
    for number, line in enumerate(lines, 1):
        if line.startswith("{") and start is None:
            start = number
        elif line.startswith("}") and start is not None:
            if line.strip() == "}":
                head = "\n".join(lines[max(0, start - 8):start - 1])
                names = re.findall(r"\b([A-Za-z_]\w*)\s*\(", head)
                out.append((names[-1] if names else "?", start, number - start + 1))
            start = None
    return out
