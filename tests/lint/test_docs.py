"""What the READMEs claim: links lead somewhere, commands exist, the configuration reference is what the program prints."""
import os
import pathlib
import re
import subprocess

import pytest

from source import ROOT

PHID = os.environ.get("PHID_BIN", str(ROOT / "build" / "phid"))
TOP_FOLDERS = ("config", "quant", "engine", "server", "tests")


def readmes():
    return sorted(p for folder in (*TOP_FOLDERS, "docker") for p in (ROOT / folder).rglob("README.md")) + [ROOT / "README.md"]


def phid(*arguments):
    done = subprocess.run([PHID, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands():
    return set(re.findall(r"^  (\w+) ", phid("help"), re.M))


def source_folders():
    """Folders with sources of their own, each of which a newcomer may land in."""
    out = set()
    for folder in TOP_FOLDERS:
        for pattern in ("*.c", "*.py"):
            out |= {p.parent for p in (ROOT / folder).rglob(pattern)}
    # tests/unit mirrors the source tree; its folders are explained by theirs.
    return sorted(p for p in out if ROOT / "tests" / "unit" not in p.parents and "__pycache__" not in p.parts)


@pytest.mark.parametrize("folder", source_folders(), ids=lambda p: str(p.relative_to(ROOT)))
def test_folder_is_explained(folder):
    """By its own README, or by a line in the one above it."""
    if (folder / "README.md").exists():
        return
    above = folder.parent / "README.md"
    assert above.exists() and folder.name in above.read_text(), f"nothing explains {folder.relative_to(ROOT)}"


@pytest.mark.parametrize("path", readmes(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


@pytest.mark.parametrize("path", readmes(), ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist(path):
    known = commands() | {"COMMAND"}
    shown = re.sub(r"\s#.*", "", "\n".join(code_of(path)))
    for command in re.findall(r"(?:^|[` ]|(?<!=)build/)phid (\w+)(?=[ `\n])", shown):
        assert command in known, f"{path.relative_to(ROOT)}: phid {command}"


def code_of(path):
    """What stands between back quotes, in fences or after four spaces."""
    body = path.read_text()
    yield from re.findall(r"```[^\n]*\n(.*?)```", body, re.S)
    yield from (f"`{span}`" for span in re.findall(r"`([^`\n]+)`", body))
    yield from re.findall(r"^    (.*)$", body, re.M)


def test_configuration_reference_is_current():
    body = (ROOT / "config" / "README.md").read_text()
    match = re.search(r"<!-- options: begin -->\n(.*?)<!-- options: end -->", body, re.S)
    assert match and match[1].strip() == phid("serve", "--help-config").strip(), \
        "config/README.md: put the output of `phid serve --help-config` between the markers"


def test_configuration_example_is_accepted(tmp_path):
    """Every YAML block in the READMEs is a whole configuration."""
    blocks = [(p, b) for p in readmes() for b in re.findall(r"```yaml\n(.*?)```", p.read_text(), re.S)]
    assert blocks
    for path, block in blocks:
        file = tmp_path / "phid.yaml"
        file.write_text(block)
        done = subprocess.run([PHID, "version", "--config", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{path.relative_to(ROOT)}: {done.stderr}"


def test_command_table_is_complete():
    body = (ROOT / "server" / "cli" / "README.md").read_text()
    missing = [c for c in commands() if f"`phid {c}" not in body]
    assert not missing, missing


@pytest.mark.parametrize("script", ["run.sh", "test.sh", ".ci/run"])
def test_scripts_parse(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


def test_python_parses():
    for path in pathlib.Path(ROOT / "tests").rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
