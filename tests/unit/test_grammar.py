# SPDX-License-Identifier: GPL-2.0-only
"""What every verb has: true examples, --quiet, a place in the manual page, completion in real shells."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pexpect
import pytest

from harness.cli import grammar, main
from harness.examples import EXAMPLES
from harness.grammar import PROGRAM, purposes, verbs
from harness.manual import manual
from harness.verbs.completion import script

ROOT = Path(__file__).resolve().parents[2]
VERBS = list(verbs(grammar()))


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_examples_that_parse_and_a_module(verb: str) -> None:
    assert EXAMPLES.get(verb), f"{verb} has no example in harness/examples.py"
    words = [shlex.split(example.words.partition(" >")[0]) for example in EXAMPLES[verb]]
    given = [grammar().parse_args(each) for each in words]
    assert given[0].verb == verb and all(hasattr(one, "quiet") for one in given)
    assert callable(importlib.import_module(f"harness.verbs.{verb}").main)


def test_no_example_is_of_a_verb_that_is_gone() -> None:
    assert set(EXAMPLES) == set(VERBS) == set(purposes(grammar()))


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_the_examples_and_fits_60_columns(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    lines = said.splitlines()
    for example in EXAMPLES[verb]:
        assert f"  {PROGRAM} {example.words}" in lines  # on a line of its own, to be copied
        lines.remove(f"  {PROGRAM} {example.words}")
    assert max(map(len, lines)) <= 60


def test_the_manual_page_has_every_verb_and_option_and_its_readers_say_nothing(tmp_path: Path) -> None:
    page = tmp_path / "hmm-harness.1"
    page.write_text(manual())
    for reader in (["mandoc", "-Tlint", str(page)], ["groff", "-man", "-ww", "-z", "-Tutf8", str(page)]):
        done = subprocess.run(reader, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), reader
    read = subprocess.run(
        ["mandoc", "-Tascii", "-O", "width=400", str(page)], capture_output=True, text=True, check=True
    )
    text = re.sub(".\b", "", read.stdout)  # bold is a letter over itself
    for verb, command in verbs(grammar()).items():
        assert f"\n   {verb}\n" in text
        assert all(f"{PROGRAM} {example.words}" in text for example in EXAMPLES[verb])
        assert all(word in text for action in _shown(command) for word in action.option_strings)
    assert str(Path.home() / ".cache") not in text


def _shown(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in command._actions if action.dest != "help")


def test_the_manual_page_needs_the_standard_library_alone() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.manual import manual; manual()"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


@contextmanager
def shell(argv: list[str], setup: str) -> Iterator[pexpect.spawn[str]]:
    """An interactive shell that has read the completion."""
    environ = os.environ | {"TERM": "dumb", "PS1": "$ "}
    child = pexpect.spawn(argv[0], argv[1:], env=environ, encoding="utf-8", timeout=90, dimensions=(24, 200))
    child.delaybeforesend = None
    with closing(child):
        child.sendline(f"{setup}; echo it is rea''dy")
        child.expect("it is ready")
        yield child


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_shell_completes_verbs_options_values_and_files(name: str, tmp_path: Path) -> None:
    place = tmp_path / "script"
    place.write_text(script(name))
    (tmp_path / "fix.mbox").touch()
    argv, setup = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {place}"),
        "zsh": (
            ["zsh", "-f", "-i"],
            f'PS1="$ "; autoload -Uz compinit; compinit -u -D; eval "$(<{place})"',
        ),
    }[name]
    with shell(argv, f"cd {tmp_path}; {setup}") as child:
        for typed, completed in (
            ("hmm-harness sib", "lings"),
            ("hmm-harness compare --until", "-sure"),
            ("hmm-harness compare --scenario rt", "-spinner"),
            ("hmm-harness run --preempt vol", "untary"),
            ("hmm-harness compare linux-6", ".12"),
            ("hmm-harness compare --try fi", "x.mbox"),
            ("hmm-harness list pmd-trylock-starvation/", "wait-on-locked-pmd"),
        ):
            child.send(f"{typed}\t")
            child.expect_exact(typed)
            assert child.expect_exact(completed) == 0, "it comes, or pexpect says what came instead"
            child.sendcontrol("u")


def test_fish_completes_them_too(tmp_path: Path) -> None:
    place = tmp_path / "script"
    place.write_text(script("fish"))
    line = "complete -C 'hmm-harness sib'; complete -C 'hmm-harness export last --format j'"
    argv = ["fish", "--no-config", "-c", f"source {place}; {line}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["siblings", "junit", "jsonl"]


def test_quiet_says_the_result_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log = ROOT / "tests/data/console/7.3-fixed-preempt-none-completes.log"
    assert main(["classify", "--quiet", str(log)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{log}: completed") and not err
