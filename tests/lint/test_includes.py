"""Who may include whom, as engine/README.md and the table below say; and each x.c includes its x.h first."""
import pytest

from source import ROOT, c_files, includes, product_files

# The longest matching folder decides. Each value: prefixes of the paths that its files may include (and their own folder).
ALLOWED = {
    "engine/base": [],
    "quant/format": ["engine/base"],
    "quant": ["engine/base", "engine/gguf", "engine/phid.h", "quant/format"],
    "engine/gguf": ["engine/base", "quant/format"],
    "engine/text": ["engine/base", "engine/gguf"],
    "config": ["engine/base"],
    "engine/backend": ["engine/base", "quant/format"],
    "engine/backend/cpu": ["engine/base", "quant/format", "engine/backend/backend.h"],
    "engine/model": ["engine/base", "engine/gguf", "quant/format", "engine/backend/backend.h"],
    "engine/kv": ["engine/base", "engine/gguf", "quant/format", "engine/backend/backend.h"],
    "engine/sample": ["engine/base", "engine/gguf", "quant/format", "engine/backend/backend.h"],
    "engine": ["engine", "quant/format"],
    "server": ["engine/phid.h", "engine/base", "config"],
    "server/cli": ["engine/phid.h", "engine/base", "config", "server/server.h", "quant", "engine/gguf",
                   "engine/backend/cpu/calibrate.h"],
    "server/main.c": ["server/cli/cli.h"],
}

# A library's header, and the folders that may include it.
LIBRARIES = {
    "yaml.h": ["config"],
    "jansson.h": ["server"],
    "microhttpd.h": ["server"],
    "openssl/": ["server"],
    "curl/": ["server/cli"],
    "pcre2.h": ["engine/text"],
    "immintrin.h": ["engine/backend/cpu"],
    "arm_neon.h": ["engine/backend/cpu"],
    "simde/": ["engine/backend/cpu"],
    "cuda": ["engine/backend/cuda"],
    "cublas": ["engine/backend/cuda"],
    "sys/socket.h": ["server"],
    "netinet/": ["server"],
}


def below(path, folder):
    return path == folder or path.startswith(folder + "/")


def rule_of(path):
    return max((folder for folder in ALLOWED if below(path, folder)), key=len)


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_include_table(path):
    rule = rule_of(str(path))
    for line, name, quoted in includes(path):
        if quoted:
            if name == "engine/commit.h" or name == "commit.h":
                continue  # written by the build
            assert (ROOT / name).exists(), f"{path}:{line}: {name} is no path from the root"
            allowed = [rule, *ALLOWED[rule]]
            assert any(below(name, prefix) for prefix in allowed), f"{path}:{line}: {rule} may not include {name}"
        for library, folders in LIBRARIES.items():
            if not quoted and name.startswith(library):
                assert any(below(str(path), folder) for folder in folders), f"{path}:{line}: <{name}> belongs to {folders}"


@pytest.mark.parametrize("path", [p for p in product_files() if p.suffix == ".c"], ids=str)
def test_own_header_comes_first(path):
    header = path.with_suffix(".h")
    if (ROOT / header).exists():
        first = includes(path)[0]
        assert first[1] == str(header), f"{path} includes {first[1]} before {header}"


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_nothing_includes_tests(path):
    assert not [name for _, name, quoted in includes(path) if quoted and name.startswith("tests/")]


def test_the_tree_was_found():
    assert len(c_files()) > 50
