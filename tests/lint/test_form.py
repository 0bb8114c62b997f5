"""File and function lengths, banned calls, header guards, notes to self."""
import re

import pytest

from source import ROOT, c_files, code, functions, product_files, text

FILE_MAX = 800
FUNCTION_MAX = 100
# Kernels and tables may be longer: they are read one row at a time.
LONG_FUNCTIONS_ALLOWED = ("engine/backend/cpu/", "quant/format/", "tests/")

BANNED = r"\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|strtok|sscanf|rand|srand|alloca|tmpnam)\s*\("
BANNED_IN_ENGINE = r"\b(printf|fprintf|puts|fputs|perror|abort|exit|_exit|assert)\s*\("


def matches(path, pattern):
    for number, line in enumerate(code(path).splitlines(), 1):
        for match in re.finditer(pattern, line):
            yield f"{path}:{number}: {match.group(1)}"


@pytest.mark.parametrize("path", c_files(), ids=str)
def test_file_length(path):
    lines = text(path).count("\n")
    assert lines <= FILE_MAX, f"{path} has {lines} lines: it is two files"


@pytest.mark.parametrize("path", [p for p in c_files() if p.suffix == ".c"], ids=str)
def test_function_length(path):
    if str(path).startswith(LONG_FUNCTIONS_ALLOWED):
        return
    long = [f"{path}:{start}: {name} has {lines} lines" for name, start, lines in functions(path) if lines > FUNCTION_MAX]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_banned_calls(path):
    found = list(matches(path, BANNED))
    if path.parts[0] != "config":
        found += matches(path, r"\b(getenv|secure_getenv)\s*\(")
    if path.parts[0] in ("engine", "config", "quant"):
        found += matches(path, BANNED_IN_ENGINE)
    assert not found, "\n".join(found)


def guarded_headers():
    """All but the templates, which kernels include once for each instruction set."""
    return [p for p in c_files() if p.suffix == ".h" and not p.stem.endswith("_template")]


@pytest.mark.parametrize("path", guarded_headers(), ids=str)
def test_header_guard(path):
    body = code(path)
    guard = re.search(r"#ifndef (\w+)\n#define (\w+)\n", body)
    assert guard and guard[1] == guard[2], f"{path} has no guard"
    assert guard[1].endswith("_H") and path.stem.upper().replace("-", "_") in guard[1], f"{path}: guard {guard[1]}"
    assert body.rstrip().endswith("#endif"), f"{path} does not end with its #endif"


def test_header_guards_differ():
    seen = {}
    for path in guarded_headers():
        guard = re.search(r"#ifndef (\w+)", code(path))[1]
        assert guard not in seen, f"{path} and {seen[guard]} share {guard}"
        seen[guard] = path


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_header_opens_with_its_noun(path):
    if path.suffix == ".h":
        assert text(path).startswith("/*"), f"{path} does not open with a comment"


def test_no_notes_to_self():
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    found = []
    for pattern in ("*.c", "*.h", "*.py", "*.sh", "*.build", "*.md", "*.mjs"):
        for path in ROOT.rglob(pattern):
            inside = path.relative_to(ROOT)
            if inside.parts[0] in ("build", "models") or "node_modules" in inside.parts or inside.parts[0].startswith((".git", "build")):
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if words.search(line):
                    found.append(f"{inside}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [p for p in c_files() if p.suffix == ".c"], ids=str)
def test_no_recipe_for_assert_true(path):
    """A test that cannot fail is none."""
    assert not re.search(r"assert_true\s*\(\s*(true|1)\s*\)", code(path)), path


def test_source_has_no_tabs_or_trailing_space():
    found = [f"{p}:{n}" for p in c_files() for n, line in enumerate(text(p).splitlines(), 1) if "\t" in line or line != line.rstrip()]
    assert not found, "\n".join(found)
