# SPDX-License-Identifier: GPL-2.0-only
"""The documents are true as far as a program can tell: links, commands, names, and what errors say."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import grammar
from harness.config import known_fragments
from harness.grammar import verbs
from harness.kernel.patches import read_patches
from harness.scenario.catalogue import scenario_names

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = grammar()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def documents() -> list[Path]:
    """All Markdown files that are kept, and those about to be."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


def blocks(text: str, kind: str) -> Iterator[str]:
    """Fenced blocks of a kind."""
    yield from re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def headings(path: Path) -> list[str]:
    """What a heading is linked as."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found]


def words(line: str) -> list[str]:
    """A shell's words of a line up to where the command ends."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&>")
    lexer.whitespace_split = True
    found = list(lexer)
    return found[: next((at for at, word in enumerate(found) if set(word) <= set(";|&>")), None)]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve_and_commands_parse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            place = path.parent / name if name else path
            assert place.exists(), f"{path}: {target} is not there"
            assert not anchor or anchor in headings(place), f"{path}: {target} is no heading"
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            said = words(line.removeprefix("$ "))
            if said and said[0].endswith("hmm-harness"):
                assert GRAMMAR.parse_args(said[1:]).verb
            elif said and said[0].startswith(("./", "ci/")):
                assert (ROOT / said[0]).is_file(), f"{path}: {said[0]} is not there"


def test_two_screens_name_every_verb_and_every_folder() -> None:
    assert len(README.splitlines()) <= 130
    missing = [verb for verb in verbs(GRAMMAR) if not re.search(rf"`[^`\n]*\b{verb}\b[^`\n]*`", README)]
    assert not missing, f"README.md does not name {missing}"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    folders = {str(Path(name).parent) for name in listed.stdout.split() if name.endswith((".py", ".c"))}
    rooms = {folder for folder in folders if re.fullmatch(r"(harness/)?\w+", folder)} | {"ci", "qemu"}
    unlinked = [room for room in sorted(rooms) if f"({room}/README.md)" not in README]
    assert not unlinked, f"README.md does not link to the README of {unlinked}"


def test_no_document_counts_tests() -> None:
    for path in documents():
        if "reports" not in path.parts:
            assert not re.search(r"\b\d+ passed\b", path.read_text(encoding="utf-8")), path


def test_what_can_be_named_is_told() -> None:
    scenarios = (ROOT / "harness/scenario/README.md").read_text(encoding="utf-8")
    assert not [name for name in scenario_names() if f"`{name}`" not in scenarios]
    fragments = (ROOT / "qemu/README.md").read_text(encoding="utf-8")
    assert not [name for name in known_fragments() if f"`{name}`" not in fragments]
    patches = (ROOT / "patches/README.md").read_text(encoding="utf-8")
    folders = {path.name for path in (ROOT / "patches").iterdir() if path.is_dir()}
    assert not [name for name in folders if f"`{name}/`" not in patches]


def test_the_worked_example_is_about_the_mail_that_is_there() -> None:
    text = (ROOT / "patches/WORKED-EXAMPLE.md").read_text(encoding="utf-8")
    mail = ROOT / "patches/example/fix.mbox"
    body = mail.read_text(encoding="utf-8").split("\n", 1)[1].partition("\n-- \n")[0]
    assert body.strip() in text
    (patch,) = read_patches(mail)
    (known,) = read_patches(ROOT / "patches/trylock-starvation/wait-on-locked-7.0.patch")
    assert patch.sha256 == known.sha256


def literals() -> str:
    """All text that the program can say, from its source: what is filled in is `\\0`."""
    found = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_troubles_are_told_in_the_programs_own_words() -> None:
    said = literals()
    short = README.split("## When it fails", 1)[1].split("\n## ", 1)[0]
    text = (ROOT / "harness/TROUBLESHOOTING.md").read_text(encoding="utf-8") + short
    rows = re.findall(r"^\| (?:verdict )?`(.+?)`[^|]*\|", text, re.M)
    assert len(rows) > 30
    for row in rows:
        for piece in re.split(r"\.\.\.|'\.\.\.'", row):
            assert piece.strip(" ;:'") in said, f"nothing says {row!r}: {piece!r}"
