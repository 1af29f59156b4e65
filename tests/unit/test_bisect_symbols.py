# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig symbols as what is bisected, on a toy whose olddefconfig knows a small part of the language."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from harness.bisect.differences import differences
from harness.bisect.model import BAD, GOOD, UnusableError
from harness.bisect.symbols import ConfigSubject
from harness.config import KernelConfig
from harness.deadline import Deadline
from harness.errors import UserError
from harness.experiment.options import Workshop
from harness.kernel.build import resolved_config
from harness.kernel.kconfig import read_config
from harness.kernel.language import Kconfig
from harness.kernel.spec import KernelTree
from tests.unit.bisectroom import WITH_MODULES, notes_of, put, workshop_with
from tests.unit.kernelroom import toy_tree

SYMBOLS = """\
config EARLY
\tbool "Needs what comes later"
\tdepends on LATE

config NUMBER
\tint "A number"

config PLAIN
\tbool "Plain"

config HIDDEN
\tbool

config PICKER
\tbool "Picker"
\tselect HIDDEN

choice
\tprompt "Speed"

config FAST
\tbool "Fast"

config SLOW
\tbool "Slow"

endchoice

config BASIS
\tbool "Basis"

config ON_TOP
\tbool "On top"
\tdepends on BASIS

config TARGET
\tbool "Target"

config AIMS
\tbool "Aims"

config ARROW
\tdef_bool AIMS
\tselect TARGET

config UNWANTED
\tbool "Unwanted"
\tdefault y
\tdepends on PICKER

config FOLLOWS
\tbool "Follows"
\tdefault y
\tdepends on PICKER

config NEEDY
\tbool "Needy"
\tdepends on DERIVED

config DERIVED
\tdef_bool LATE

config NEVER
\tbool "Never"
\tdepends on LATE && NOWHERE

config LATE
\tbool "Late"
"""
#: olddefconfig for toys: conditions, defaults, selects, choices. Symbols it does not know stay as they are.
RESOLVE = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from harness.kernel.kconfig import parse_fragment, read_config
from harness.kernel.language import Kconfig

kconfig = Kconfig(Path("."), "x86")
asked = {{s.symbol: s.value for s in parse_fragment(Path(sys.argv[1]).read_text(), "x")}}
chosen = {{}}
for symbol, value in asked.items():
    choice = kconfig.entries[symbol][0].choice if symbol in kconfig.entries else None
    if choice and value == "y":
        chosen[choice.where] = symbol
have = {{s: v for s, v in asked.items() if s not in kconfig.entries}}
for _ in range(len(kconfig.entries)):
    before, shown = dict(have), set(asked) - set(kconfig.entries)
    look = lambda name: name if name in ("y", "m", "n") else have.get(name, "n")
    for symbol, (block,) in kconfig.entries.items():
        default = "y" if any(expr.value(look) for expr in block.defaults) else "n"
        value = asked.get(symbol, default) if block.prompt else default
        if block.choice:
            value = "y" if chosen.get(block.choice.where) == symbol else "n"
        met = all(expr.value(look) for expr in block.all_depends)
        value = value if met else "n"
        if any(look(other.name) == "y" for other, _, _ in kconfig.selectors.get(symbol, ())):
            value = "y"
        have[symbol] = value
        if value != "n" or (met and block.prompt):
            shown.add(symbol)
    if have == before:
        break
Path(sys.argv[1]).write_text("".join(
    f"# CONFIG_{{s}} is not set\\n" if v == "n" else f"CONFIG_{{s}}={{v}}\\n"
    for s, v in have.items() if s in shown))
"""


@pytest.fixture
def workshop(tmp_path: Path, programs: Path) -> Workshop:
    return workshop_with(tmp_path / "cache", programs)


def symbols_tree(tmp_path: Path, text: str = SYMBOLS) -> KernelTree:
    tree = toy_tree(tmp_path / "tree")
    start = WITH_MODULES.index("\t@grep -v CONFIG_IMPOSSIBLE")
    rest = WITH_MODULES[WITH_MODULES.index("bzImage:") :]
    rule = f"\t@{sys.executable} resolve.py $(O)/.config\n"
    put(tree.path / "Makefile", f"{WITH_MODULES[:start]}{rule}{rest}")
    put(tree.path / "resolve.py", RESOLVE)
    put(tree.path / "Kconfig", text)
    return tree


def symbols(tmp_path: Path, workshop: Workshop, good: str, bad: str, kconfig: str = SYMBOLS) -> ConfigSubject:
    files = [Path(put(tmp_path / f"{name}.config", text)) for name, text in (("good", good), ("bad", bad))]
    tree = symbols_tree(tmp_path, kconfig)
    return ConfigSubject.of(tree, files[0], files[1], KernelConfig(), (), "microvm", workshop)


def config_at(subject: ConfigSubject, count: int, workshop: Workshop) -> dict[str, str]:
    request = subject.request_for(subject.steps[:count])
    return read_config(resolved_config(request, workshop.cache, workshop.progress, Deadline.after(60)))


def test_symbols_in_an_order_in_which_each_can_be_set(tmp_path: Path, workshop: Workshop) -> None:
    good = "CONFIG_SLOW=y\nCONFIG_BASIS=y\nCONFIG_ON_TOP=y\nCONFIG_NUMBER=3\nCONFIG_AIMS=y\n"
    bad = "CONFIG_FAST=y\nCONFIG_EARLY=y\nCONFIG_LATE=y\nCONFIG_PICKER=y\nCONFIG_NUMBER=5\nCONFIG_NEEDY=y\n"
    bad += "# CONFIG_UNWANTED is not set\n"
    subject = symbols(tmp_path, workshop, good, bad)
    # HIDDEN and FOLLOWS come with PICKER, ON_TOP goes with BASIS; the members of the choice are one;
    # EARLY waits for LATE, and NEEDY does through what has no prompt; so AIMS holds TARGET until it is gone.
    assert subject.history.names == (
        "NUMBER",
        "PICKER",
        "FAST",
        "BASIS",
        "AIMS",
        "TARGET",
        "LATE",
        "EARLY",
        "NEEDY",
    )
    assert subject.label(2) == "CONFIG_FAST: n -> y, CONFIG_SLOW: y -> n"
    assert subject.label(0) == "CONFIG_NUMBER: 3 -> 5"
    assert subject.label(BAD) == "all of 9 changes of the configuration"
    for count in range(10):
        config = config_at(subject, count, workshop)
        for place, step in enumerate(subject.steps):
            for change in step.changes:
                wanted = change.after if place < count else change.before
                assert config.get(change.symbol, "n") == wanted
        assert {config.get("HIDDEN", "n"), config.get("FOLLOWS", "n")} == {"y" if count >= 2 else "n"}
        assert "UNWANTED" not in config
        assert config.get("ON_TOP", "n") == ("y" if count < 4 else "n")
    assert notes_of(workshop).notes == []


def test_symbols_kernels_build_in_one_object_folder(tmp_path: Path, workshop: Workshop) -> None:
    subject = symbols(tmp_path, workshop, "", "CONFIG_PLAIN=y\n")
    keys = [subject.kernel(place, workshop).build.key for place in (BAD, GOOD, 0)]
    assert len(set(keys)) == 2
    assert keys[0] == keys[2]
    assert len(list(workshop.cache.root.glob("workspaces/toy/obj-*"))) == 1


def test_symbol_that_does_not_take_is_skipped_with_the_reason(tmp_path: Path, workshop: Workshop) -> None:
    subject = symbols(tmp_path, workshop, "", "CONFIG_LATE=y\nCONFIG_EARLY=y\n")
    turned = dataclasses.replace(subject, steps=tuple(reversed(subject.steps)))
    with pytest.raises(UnusableError, match=r"CONFIG_EARLY=y did not take .* LATE \[=n\] is not met"):
        turned.kernel(0, workshop)
    # EARLY cannot stay without LATE.
    with pytest.raises(UnusableError, match="CONFIG_EARLY=y did not take"):
        subject.without(0, workshop)
    assert subject.without(1, workshop) is not None


def test_setting_at_an_end_has_to_take(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(UserError, match=r"bad\.config:1: CONFIG_NEVER=y did not take"):
        symbols(tmp_path, workshop, "", "CONFIG_NEVER=y\nCONFIG_LATE=y\n")


def test_setting_against_what_guests_need_is_refused(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(UserError, match=r"CONFIG_SMP is y in base\.config:\d+, and n in bad\.config:1"):
        symbols(tmp_path, workshop, "", "# CONFIG_SMP is not set\n")


def test_whole_configuration_is_changed_to_what_guests_need(tmp_path: Path, workshop: Workshop) -> None:
    whole = "#\n# Automatically generated file; DO NOT EDIT.\n#\n# CONFIG_SMP is not set\nCONFIG_NEVER=y\n"
    subject = symbols(tmp_path, workshop, whole, f"{whole}CONFIG_PLAIN=y\n")
    assert subject.history.names == ("PLAIN",)
    assert config_at(subject, 0, workshop)["SMP"] == "y"
    (good, bad) = notes_of(workshop).notes
    assert good.startswith("good.config: what guests need goes on top, and changes ")
    assert bad.startswith("bad.config: ")


def test_two_configurations_that_come_to_the_same(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(UserError, match="come to the same configuration"):
        symbols(tmp_path, workshop, "CONFIG_PLAIN=y\n", "# plain\nCONFIG_PLAIN=y\n")
    with pytest.raises(UserError, match="cannot read"):
        ConfigSubject.of(
            symbols_tree(tmp_path / "b"),
            tmp_path / "none",
            tmp_path / "none",
            KernelConfig(),
            (),
            "microvm",
            workshop,
        )


def test_two_hundred_symbols_in_a_chain(tmp_path: Path, workshop: Workshop) -> None:
    names = [f"S{number:03d}" for number in range(200)]
    text = "".join(
        f'config {name}\n\tbool "{name}"\n\tdepends on {needed}\n\n'
        for name, needed in zip(names, [*names[1:], "LATE"], strict=True)
    )
    bad = "".join(f"CONFIG_{name}=y\n" for name in names)
    kconfig = f'{text}config LATE\n\tbool "Late"\n'
    subject = symbols(tmp_path, workshop, "CONFIG_LATE=y\n", bad + "CONFIG_LATE=y\n", kconfig)
    assert subject.history.names == tuple(reversed(names))
    for count in (1, 100, 200):
        config = config_at(subject, count, workshop)
        assert [name for name in reversed(names) if config.get(name) == "y"] == names[::-1][:count]


def test_what_a_step_needs_is_a_step(tmp_path: Path, workshop: Workshop) -> None:
    """BACKUP cannot be set at the good end, and its default would not do."""
    kconfig = "".join(
        f'config {name}\n\tbool "{name}"\n\tdepends on {needs}\n\n'
        for name, needs in (
            ("USER", "MAIN || BACKUP"),
            ("MAIN", "!OFF"),
            ("BACKUP", "LATE"),
            ("LATE", "!OFF"),
        )
    )
    bad = "CONFIG_LATE=y\nCONFIG_BACKUP=y\nCONFIG_USER=y\n"
    subject = symbols(tmp_path, workshop, "CONFIG_MAIN=y\n", bad, kconfig)
    assert subject.history.names == ("MAIN", "LATE", "BACKUP", "USER")
    assert config_at(subject, 4, workshop)["USER"] == "y"


def test_circle_of_needs_is_broken(tmp_path: Path) -> None:
    text = "".join(
        f'config {name}\n\tbool "{name}"\n\tdepends on {other} || FREE\n\n'
        for name, other in (("ONE", "TWO"), ("TWO", "ONE"))
    )
    put(tmp_path / "Kconfig", text)
    found = differences({}, {"ONE": "y", "TWO": "y"}, Kconfig(tmp_path, "x86"))
    assert sorted(step.name for step in found) == ["ONE", "TWO"]
