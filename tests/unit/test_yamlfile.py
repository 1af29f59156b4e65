# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from harness.errors import UserError
from harness.yamlfile import load_yaml, parse_yaml


class Arm(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kernel: str
    trials: int = 6


class File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    arms: dict[str, Arm]
    order: list[Arm] = []
    either: int | Arm = 0


def errors(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "f.yaml", File)
    return caught.value.message.splitlines()


def test_good_file(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("arms:\n  fixed: {kernel: base, trials: 3}\n", encoding="utf-8")
    assert load_yaml(path, File).arms == {"fixed": Arm(kernel="base", trials=3)}


def test_all_errors_at_once_in_the_order_of_the_file() -> None:
    found = errors(
        "arms:\n  fixed:\n    kernl: base\n    trials: many\n  other:\n    kernel: [1]\nordr: []\n"
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["f.yaml:2", "arms.fixed.kernel"],
        ["f.yaml:3", "arms.fixed.kernl"],
        ["f.yaml:4", "arms.fixed.trials"],
        ["f.yaml:6", "arms.other.kernel"],
        ["f.yaml:7", "ordr"],
    ]
    assert found[0].endswith("is missing")
    assert "did you mean 'kernel'?" in found[1]
    assert "'many'" in found[2]
    assert "did you mean 'order'?" in found[4]


def test_places_in_lists_and_unions() -> None:
    found = errors(
        "arms: {}\norder:\n  - kernel: a\n  - kernel: b\n    nonsense: 1\neither:\n  kernel: [x]\n"
    )
    assert found[0].startswith("f.yaml:5: order[1].nonsense: unknown key")
    assert any(line.startswith("f.yaml:7: either.kernel") for line in found)


def test_key_twice_and_key_that_is_no_string() -> None:
    found = errors("arms: {}\narms: {}\n7: x\n")
    assert found[0] == "f.yaml:2: arms: this key is given twice"
    assert found[1].startswith("f.yaml:3: 7: a key must be a string")


def test_syntax_error_has_its_line() -> None:
    assert errors("arms:\n  a: [1\n  b: 2\n")[0].startswith("f.yaml:3: ")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("arms: {}\nx: \0\n", "f.yaml:2: special characters are not allowed"),
        ("arms: {}\nsince: 2001-02-30\n", "f.yaml:2: since: '2001-02-30' is no timestamp"),
        ("arms: {}\neither: !!int abc\n", "f.yaml:2: either: 'abc' is no int"),
        ("arms: {}\neither: !!bool abc\n", "f.yaml:2: either: 'abc' is no bool"),
        ("arms: {}\neither: !!timestamp abc\n", "f.yaml:2: either: 'abc' is no timestamp"),
        ("arms: {}\neither: !!int ''\n", "f.yaml:2: either: '' is no int"),
        ("arms: {}\n2001-02-30: 1\n", "f.yaml:2: (top): '2001-02-30' is no timestamp"),
    ],
)
def test_values_that_are_not_of_their_type_have_their_line(text: str, first: str) -> None:
    assert errors(text)[0] == first


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[" * 500, "f.yaml: "),
        ("arms: " + "{a: " * 500, "f.yaml: "),
        ("arms: {}\norder: " + "[" * 60 + "]" * 60, "f.yaml:2: "),
        ("arms: {}\norder: &a [*a]\n", "f.yaml:2: "),
        ("arms: {}\norder: &a [*a, *a]\n", "f.yaml:2: "),
        ("arms: {}\neither: &a {kernel: *a}\n", "f.yaml:2: "),
    ],
)
def test_yaml_without_an_end_is_an_error(text: str, place: str) -> None:
    (found,) = errors(text)
    assert found.startswith(f"{place}this is nested too deep")


def test_empty_and_unreadable_file(tmp_path: Path) -> None:
    assert errors("")[0] == "f.yaml:1: arms: is missing"
    with pytest.raises(UserError, match="cannot read"):
        load_yaml(tmp_path / "absent.yaml", File)


def test_a_file_that_is_something_else_is_not_shown_whole() -> None:
    (found,) = errors("root:x:0:0:root:/root:/bin/bash\n" * 40)
    assert found.startswith("f.yaml:1: keys and values are wanted (found 'root:x:0:0") and len(found) < 120


def test_a_list_is_not_too_short_as_well_for_what_is_wrong_in_it() -> None:
    class Cpus(BaseModel):
        cpus: Annotated[tuple[Annotated[int, Field(le=8)], ...], Field(min_length=1)]

    for text, place in (("cpus: [99]\n", "cpus[0]"), ("cpus: []\n", "cpus")):
        with pytest.raises(UserError) as caught:
            parse_yaml(text, "f.yaml", Cpus)
        (found,) = caught.value.message.splitlines()
        assert found.startswith(f"f.yaml:1: {place}: ")


def test_yaml_that_makes_objects_is_refused() -> None:
    found = errors("arms: !!python/object/apply:os.system ['true']\n")
    assert any("os.system' is not known" in line for line in found)


def test_on_and_off_are_words() -> None:
    class Switch(BaseModel):
        on: list[str]
        off: bool

    assert parse_yaml("on: [power, on, no]\noff: true\n", "f.yaml", Switch) == Switch(
        on=["power", "on", "no"], off=True
    )
