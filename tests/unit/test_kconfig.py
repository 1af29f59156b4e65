# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.kernel.kconfig import Setting, merge, parse_fragment, parse_setting, read_config, unmet
from harness.kernel.language import Kconfig, parse_expr
from harness.kernel.reason import explain

TOP = """\
mainmenu "Toy"

source "arch/$(SRCARCH)/Kconfig"

menu "General"
\tdepends on ARCH_OK

config EXPERT
\tbool "Expert"  # a comment

if EXPERT

config TUNABLE
\tint "Tunable"
\trange 1 8
\tdefault 4

choice
\tprompt "Preemption"
\tdefault NONE

config NONE
\tbool "None"
\tdepends on !HAS_LAZY

config FULL
\tbool "Full"

endchoice

endif

config HIDDEN
\tbool
\tdepends on EXPERT

config DEBUG
\tbool "Debug" if EXPERT
\tselect HIDDEN if FULL || \\
\t\tNONE
\thelp
\t  A help text with what looks like statements:

\t  config NOT_A_SYMBOL
\t    depends on NOTHING

config AFTER_HELP
\ttristate "After" if $(cc-option,-mfoo)
\tdepends on NET = y && (PCI || DEBUG) && $(cc-option,-mbar)
endmenu
"""

ARCH = """\
config X86
\tdef_bool y
\tselect ARCH_OK
\tselect HAS_LAZY if LAZY_WANTED

config LAZY_WANTED
\tbool "Lazy"

config ARCH_OK
\tbool

config HAS_LAZY
\tbool

config NET
\ttristate "Net"

config PCI
\tbool "PCI"
\tdepends on BUS
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "arch/x86").mkdir(parents=True)
    (tmp_path / "Kconfig").write_text(TOP, encoding="utf-8")
    (tmp_path / "arch/x86/Kconfig").write_text(ARCH, encoding="utf-8")
    return tmp_path


def why(tree: Path, symbol: str, value: str = "y", **config: str) -> str:
    (reason,) = explain([(symbol, value)], tree, "x86", {"X86": "y", "ARCH_OK": "y", **config})
    return reason


# Fragments


def test_fragment_lines() -> None:
    text = '# a comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=0x1F\nCONFIG_D="a b"\n'
    assert [(s.symbol, s.value, s.where) for s in parse_fragment(text, "f.config")] == [
        ("A", "y", "f.config:3"),
        ("B", "n", "f.config:4"),
        ("C", "0x1F", "f.config:5"),
        ("D", '"a b"', "f.config:6"),
    ]


def test_wrong_lines_come_all_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_fragment("CONFIG_A=yes\nfoo\nCONFIG_B=y\n", "f.config")
    assert [line.split(": ")[0] for line in caught.value.message.splitlines()] == ["f.config:1", "f.config:2"]


def test_user_settings() -> None:
    assert parse_setting("CONFIG_KASAN=y") == Setting("KASAN", "y", "--config")
    assert parse_setting("NR_CPUS=4").line == "CONFIG_NR_CPUS=4"
    assert parse_setting("KASAN=n").line == "# CONFIG_KASAN is not set"
    with pytest.raises(UserError, match="not a configuration setting"):
        parse_setting("KASAN")


def test_symbol_with_two_values_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "one.config").write_text("CONFIG_A=y\nCONFIG_B=y\n", encoding="utf-8")
    (tmp_path / "two.config").write_text("\nCONFIG_A=m\nCONFIG_B=y\n", encoding="utf-8")
    files = [tmp_path / "one.config", tmp_path / "two.config"]
    with pytest.raises(UserError, match=r"CONFIG_A is y in one\.config:1, and m in two\.config:2"):
        merge(files)
    assert [s.symbol for s in merge(files[:1], [parse_setting("B=y"), parse_setting("C=1")])] == [
        "A",
        "B",
        "C",
    ]
    with pytest.raises(UserError, match=r"CONFIG_B is y in one\.config:2, and n in --config"):
        merge(files[:1], [parse_setting("B=n")])


def test_unmet_settings() -> None:
    config = read_config('CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=0x10\nCONFIG_S="x"\nCONFIG_M=m\n')
    wanted = [parse_setting(text) for text in ("A=y", "B=n", "N=16", 'S="x"', "GONE=n")]
    assert unmet(wanted, config) == []
    failed = [parse_setting(text) for text in ("B=y", "A=n", "N=17", "M=y", "GONE=y")]
    assert unmet(failed, config) == failed


# Conditions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 2),
        ("M", 1),
        ("!M", 1),
        ("A && M", 1),
        ("A && !A || M", 1),
        ("(B || A) && !B", 2),
        ("A = y", 2),
        ("A != y", 0),
        ("N >= 12", 2),
        ("N < 0x0c", 0),
        ('S = "text"', 2),
        ("$(cc-option,-mfoo(bar)) && A", 2),
    ],
)
def test_conditions(text: str, value: int) -> None:
    values = {
        "A": "y",
        "M": "m",
        "N": "12",
        "S": "text",
        "y": "y",
        '"text"': "text",
        "12": "12",
        "0x0c": "0x0c",
    }
    assert parse_expr(text).value(lambda name: values.get(name, "n")) == value


@pytest.mark.parametrize("text", ["", "A &&", "(A", "A B", "&& A", "A = "])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_expr(text)


def test_entries_are_read(tree: Path) -> None:
    kconfig = Kconfig(tree, "x86")
    assert "NOT_A_SYMBOL" not in kconfig.entries
    assert kconfig.entries["AFTER_HELP"][0].where == "Kconfig:47"
    assert [block.name for block, _, _ in kconfig.selectors["HIDDEN"]] == ["DEBUG"]
    choice = kconfig.entries["NONE"][0].choice
    assert choice is not None
    assert kconfig.members(choice) == ["NONE", "FULL"]


# Reasons


def test_unmet_dependency_is_named_with_its_value_and_place(tree: Path) -> None:
    assert why(tree, "TUNABLE", "4") == "its dependency EXPERT [=n] is not met (Kconfig:13)"


def test_only_the_failing_parts_are_named_and_followed(tree: Path) -> None:
    reason = why(tree, "AFTER_HELP", NET="y")
    assert reason == "its dependency PCI [=n] || DEBUG [=n] is not met (Kconfig:47)"
    assert "NET [=m] = y" in why(tree, "AFTER_HELP", NET="m", DEBUG="y")


def test_dependency_on_what_the_tree_does_not_have(tree: Path) -> None:
    assert why(tree, "PCI") == (
        "its dependency BUS [=n] is not met (arch/x86/Kconfig:18): this tree has no BUS"
    )


def test_negated_dependency_names_who_selects_it(tree: Path) -> None:
    reason = why(tree, "NONE", EXPERT="y", HAS_LAZY="y", LAZY_WANTED="y")
    assert reason == (
        "its dependency !HAS_LAZY [=y] is not met (Kconfig:22): HAS_LAZY is set, "
        "it is selected by X86 (arch/x86/Kconfig:4)"
    )


def test_menu_around_counts(tree: Path) -> None:
    (reason,) = explain([("EXPERT", "y")], tree, "x86", {})
    assert "ARCH_OK [=n] is not met" in reason


def test_choice_prompt_range_selection_and_unknown(tree: Path) -> None:
    assert "only one of a choice can be set, and FULL is" in why(tree, "NONE", EXPERT="y", FULL="y")
    assert "its range is 1 8" in why(tree, "TUNABLE", "99", EXPERT="y", TUNABLE="4")
    assert "no prompt and cannot be set" in why(tree, "HIDDEN", EXPERT="y")
    assert "selected by DEBUG [=n]" in why(tree, "HIDDEN", EXPERT="y")
    assert "can be changed only if EXPERT [=n]" in why(tree, "DEBUG")
    assert "it is selected by DEBUG (Kconfig:39)" in why(
        tree, "HIDDEN", "n", EXPERT="y", DEBUG="y", FULL="y", HIDDEN="y"
    )
    assert why(tree, "TUNABEL") == "this tree has no such symbol; did you mean TUNABLE?"
