# SPDX-License-Identifier: GPL-2.0-only
"""Configuration fragments merged on tinyconfig, resolved by the tree's own tools, and then verified."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.disk import disk_errors
from harness.errors import UserError
from harness.kernel.reason import explain

_SET = re.compile(r"(?:CONFIG_)?([A-Za-z0-9_]+)\s*=\s*(.*)")
_UNSET = re.compile(r"#\s*CONFIG_([A-Za-z0-9_]+) is not set")
_VALUE = re.compile(r'y|m|n|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Setting:
    """One symbol that is asked for: the value as .config writes it ("n": not set), and where that is said."""

    symbol: str
    value: str
    where: str

    @property
    def line(self) -> str:
        """As .config writes it."""
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


def parse_fragment(text: str, name: str) -> list[Setting]:
    """The settings of a fragment. UserError with every line that is none."""
    settings: list[Setting] = []
    wrong: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        unset = _UNSET.fullmatch(line)
        if unset:
            settings.append(Setting(unset[1], "n", f"{name}:{number}"))
        elif line and not line.startswith("#"):
            match = _SET.fullmatch(line)
            if match and line.startswith("CONFIG_") and _VALUE.fullmatch(match[2]):
                settings.append(Setting(match[1], match[2], f"{name}:{number}"))
            else:
                wrong.append(f"{name}:{number}: {line!r} is not a configuration line")
    if wrong:
        raise UserError(
            "\n".join(wrong),
            hint='write CONFIG_X=y, =m, =n, a number or a "string", or # CONFIG_X is not set',
        )
    return settings


def parse_setting(text: str, where: str = "--config") -> Setting:
    """A setting as a user gives it: `CONFIG_X=y`, the prefix may be left out. UserError if it is none."""
    match = _SET.fullmatch(text.strip())
    if match is None or not _VALUE.fullmatch(match[2]):
        raise UserError(
            f"{where}: {text!r} is not a configuration setting",
            hint='write CONFIG_X=y, a number or a "string"',
        )
    return Setting(match[1], match[2], where)


def merge(fragments: Sequence[Path], extra: Sequence[Setting] = ()) -> tuple[Setting, ...]:
    """All settings of the fragments and the user.

    UserError for a symbol that gets two values; it names both places.
    """
    merged: dict[str, Setting] = {}
    clashes: list[str] = []
    for fragment in fragments:
        try:
            text = fragment.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the fragment {fragment}: {error}") from error
        _add(merged, clashes, parse_fragment(text, fragment.name))
    _add(merged, clashes, extra)
    if clashes:
        raise UserError("\n".join(clashes), hint="give each symbol one value")
    return tuple(merged.values())


def _add(merged: dict[str, Setting], clashes: list[str], settings: Iterable[Setting]) -> None:
    for setting in settings:
        other = merged.setdefault(setting.symbol, setting)
        if other.value != setting.value:
            clashes.append(
                f"CONFIG_{setting.symbol} is {other.value} in {other.where}, "
                f"and {setting.value} in {setting.where}"
            )


def read_config(text: str) -> dict[str, str]:
    """Symbol -> value of a .config; symbols that are not set are left out."""
    return dict(re.findall(r"^CONFIG_([A-Za-z0-9_]+)=(.*)$", text, re.M))


def unmet(settings: Iterable[Setting], config: Mapping[str, str]) -> list[Setting]:
    """The settings that a resolved configuration does not have."""
    return [
        setting for setting in settings if _number(config.get(setting.symbol, "n")) != _number(setting.value)
    ]


def _number(value: str) -> str:
    """Numbers compared as numbers: Kconfig may write 0x10 for 0X10."""
    return str(int(value, 0)) if re.fullmatch(r"-?(?:[1-9]\d*|0|0[xX][0-9a-fA-F]+)", value) else value


def resolve(
    src: Path,
    scratch: Path,
    settings: Sequence[Setting],
    srcarch: str,
    make: Callable[[str], None],
    base: str = "",
) -> str:
    """The .config that comes of the settings on `base` in the tree `src`.

    `base` is the text of a .config, of which nothing is verified; without one it is tinyconfig. `make` makes
    a target with the object folder `scratch`, which exists. UserError names each setting that did not take,
    and the dependency that is not met.
    """
    result = scratch / ".config"
    with disk_errors(scratch):
        result.unlink(missing_ok=True)
    if not base:
        make("tinyconfig")
    with disk_errors(scratch), result.open("a", encoding="utf-8") as sink:
        sink.write(base)
        sink.write("".join(f"{setting.line}\n" for setting in settings))
    make("olddefconfig")
    text = result.read_text(encoding="utf-8")
    config = read_config(text)
    failed = unmet(settings, config)
    if failed:
        reasons = explain([(setting.symbol, setting.value) for setting in failed], src, srcarch, config)
        lines = [
            f"{setting.where}: CONFIG_{setting.symbol}={setting.value} did not take "
            f"(it is {config.get(setting.symbol, 'n')}): {reason}"
            for setting, reason in zip(failed, reasons, strict=True)
        ]
        raise UserError("\n".join(lines), hint="set what it depends on as well, or leave it out")
    return text
