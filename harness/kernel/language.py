# SPDX-License-Identifier: GPL-2.0-only
"""The Kconfig language, as far as it takes to say why a symbol has its value.

Documentation/kbuild/kconfig-language.rst describes it. Macros such as $(cc-option,...) are not expanded;
conditions with one count as met.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_TOKEN = re.compile(r"""\s*(\|\||&&|!=|<=|>=|[()!=<>]|"(?:[^"\\]|\\.)*"|'[^']*'|\$\(|[A-Za-z0-9_./-]+)""")
_WORDS = {"n": 0, "m": 1, "y": 2}
_TYPES = ("bool", "tristate", "string", "int", "hex")


@dataclass(frozen=True)
class Expr:
    """A condition. op: "sym" (name), "macro" (text), "not", "and", "or", or a comparison of two names."""

    op: str
    args: tuple[Expr, ...] = ()
    name: str = ""
    right: str = ""

    def value(self, lookup: Callable[[str], str]) -> int:
        """0 (n), 1 (m) or 2 (y); `lookup` gives a symbol's or a constant's text value."""
        match self.op:
            case "sym":
                return _WORDS.get(lookup(self.name), 0)
            case "macro":
                return 2
            case "not":
                return 2 - self.args[0].value(lookup)
            case "and":
                return min(arg.value(lookup) for arg in self.args)
            case "or":
                return max(arg.value(lookup) for arg in self.args)
        return 2 if _compare(self.op, lookup(self.name), lookup(self.right)) else 0

    def conjuncts(self) -> Iterator[Expr]:
        """The parts that must all be met."""
        if self.op == "and":
            for arg in self.args:
                yield from arg.conjuncts()
        else:
            yield self

    def symbols(self) -> Iterator[str]:
        """Names in it that may be symbols."""
        for arg in self.args:
            yield from arg.symbols()
        for name in (self.name, self.right):
            if (
                name
                and self.op != "macro"
                and name not in _WORDS
                and name[0] not in "\"'"
                and not name[0].isdigit()
            ):
                yield name

    def shown(self, lookup: Callable[[str], str]) -> str:
        """The condition with the values of its symbols: "EXPERT [=n] && !PCI [=y]"."""

        def one(name: str) -> str:
            known = any(True for _ in Expr("sym", name=name).symbols())
            return f"{name} [={lookup(name)}]" if known else name

        match self.op:
            case "sym":
                return one(self.name)
            case "macro":
                return self.name
            case "not":
                inner = self.args[0].shown(lookup)
                return f"!{inner}" if self.args[0].op in ("sym", "macro") else f"!({inner})"
            case "and":
                return " && ".join(
                    f"({a.shown(lookup)})" if a.op == "or" else a.shown(lookup) for a in self.args
                )
            case "or":
                return " || ".join(
                    f"({a.shown(lookup)})" if a.op == "and" else a.shown(lookup) for a in self.args
                )
        return f"{one(self.name)} {self.op} {one(self.right)}"


def _compare(op: str, left: str, right: str) -> bool:
    if op in ("=", "!="):
        return (left == right) == (op == "=")
    try:
        a, b = int(left, 0), int(right, 0)
    except ValueError:
        return False
    return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[op]


def parse_expr(text: str) -> Expr:
    """A condition from its text. ValueError if it is none."""
    tokens = _tokens(text)
    expr, rest = _or(tokens)
    if rest:
        raise ValueError(f"unexpected {rest[0]!r} in {text!r}")
    return expr


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:]!r} is no condition")
        token, at = match[1], match.end()
        if token == "$(":
            start, depth = match.start(1), 1
            while at < len(text) and depth:
                depth += {"(": 1, ")": -1}.get(text[at], 0)
                at += 1
            token = text[start:at]
        tokens.append(token)
    return tokens


def _or(tokens: list[str]) -> tuple[Expr, list[str]]:
    return _chain(tokens, "||", "or", _and)


def _and(tokens: list[str]) -> tuple[Expr, list[str]]:
    return _chain(tokens, "&&", "and", _term)


def _chain(
    tokens: list[str], sign: str, op: str, part: Callable[[list[str]], tuple[Expr, list[str]]]
) -> tuple[Expr, list[str]]:
    first, tokens = part(tokens)
    args = [first]
    while tokens and tokens[0] == sign:
        following, tokens = part(tokens[1:])
        args.append(following)
    return (args[0] if len(args) == 1 else Expr(op, tuple(args))), tokens


def _term(tokens: list[str]) -> tuple[Expr, list[str]]:
    if not tokens:
        raise ValueError("the condition ends early")
    head, rest = tokens[0], tokens[1:]
    if head == "!":
        inner, rest = _term(rest)
        return Expr("not", (inner,)), rest
    if head == "(":
        inner, rest = _or(rest)
        if not rest or rest[0] != ")":
            raise ValueError("a parenthesis is not closed")
        return inner, rest[1:]
    if head.startswith("$("):
        # A comparison with a macro in it is as unknown as the macro.
        return Expr("macro", name=head), rest[2:] if rest and rest[0] in _COMPARISONS else rest
    if rest and rest[0] in _COMPARISONS and len(rest) > 1:
        if rest[1].startswith("$("):
            return Expr("macro", name=f"{head} {rest[0]} {rest[1]}"), rest[2:]
        return Expr(rest[0], name=head, right=rest[1]), rest[2:]
    if head in _COMPARISONS or head in ("&&", "||", ")"):
        raise ValueError(f"unexpected {head!r}")
    return Expr("sym", name=head), rest


_COMPARISONS = ("=", "!=", "<", ">", "<=", ">=")


@dataclass
class Block:
    """An entry or what encloses entries. kind: config, choice, menu, if, comment."""

    kind: str
    where: str
    name: str = ""
    depends: list[Expr] = field(default_factory=list)
    prompt: Expr | None = None
    type: str = ""
    selects: list[tuple[str, Expr, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    #: The values of its defaults, and the conditions of those.
    defaults: list[Expr] = field(default_factory=list)
    around: tuple[Block, ...] = ()

    @property
    def all_depends(self) -> list[Expr]:
        """Its own conditions and those of what is around it."""
        return [expr for block in (*self.around, self) for expr in block.depends]

    @property
    def choice(self) -> Block | None:
        return next((block for block in self.around if block.kind == "choice"), None)


_YES = Expr("sym", name="y")


class Kconfig:
    """All entries of a tree's Kconfig files."""

    def __init__(self, top: Path, srcarch: str) -> None:
        self._top = top
        self._variables = {"SRCARCH": srcarch, "srctree": ".", "HEADER_ARCH": srcarch}
        self.entries: dict[str, list[Block]] = {}
        self._read("Kconfig", [], frozenset())

    @cached_property
    def selectors(self) -> Mapping[str, list[tuple[Block, Expr, str]]]:
        """Symbol -> the entries that select it, each with the condition and the place of the select."""
        found: dict[str, list[tuple[Block, Expr, str]]] = {}
        for blocks in self.entries.values():
            for block in blocks:
                for target, condition, where in block.selects:
                    found.setdefault(target, []).append((block, condition, where))
        return found

    def members(self, choice: Block) -> list[str]:
        """The symbols of a choice."""
        return [
            name for name, blocks in self.entries.items() if any(block.choice is choice for block in blocks)
        ]

    def _read(self, name: str, around: list[Block], seen: frozenset[str]) -> None:
        path = self._top / name
        if name in seen or not path.is_file():
            return
        current: Block | None = None
        for number, line in _lines(path.read_text(encoding="utf-8", errors="replace")):
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            where = f"{name}:{number}"
            if word in ("config", "menuconfig"):
                current = Block("config", where, rest, around=tuple(around))
                self.entries.setdefault(rest, []).append(current)
            elif word in ("choice", "menu"):
                current = Block(word, where, around=tuple(around))
                around.append(current)
            elif word == "if":
                current = None
                around.append(Block("if", where, depends=_maybe(rest)))
            elif word in ("endif", "endmenu", "endchoice"):
                current = None
                if around:
                    around.pop()
            elif word == "comment":
                current = Block("comment", where)
            elif word in ("source", "rsource", "osource"):
                current = None
                self._read(self._expand(rest.strip("\"'")), around, seen | {name})
            elif current is not None:
                _attribute(current, word, rest, where)

    def _expand(self, text: str) -> str:
        path = re.sub(r"\$\((\w+)\)|\$(\w+)", lambda m: self._variables.get(m[1] or m[2], ""), text)
        return path.removeprefix("./")


def _attribute(block: Block, word: str, rest: str, where: str) -> None:
    if word == "depends":
        block.depends += _maybe(rest.removeprefix("on").strip())
    elif word in _TYPES or word == "prompt":
        if word != "prompt":
            block.type = word
        text = re.match(r"(\"(?:[^\"\\]|\\.)*\"|'[^']*')\s*(?:if\s+(.*))?$", rest)
        if text:
            condition = _maybe(text[2]) if text[2] else []
            block.prompt = condition[0] if condition else _YES
    elif word in ("def_bool", "def_tristate"):
        block.type = word.removeprefix("def_")
        _add_default(block, rest)
    elif word == "default":
        _add_default(block, rest)
    elif word == "select":
        target, _, condition_text = rest.partition(" if ")
        conditions = _maybe(condition_text) if condition_text else []
        block.selects.append((target.strip(), conditions[0] if conditions else _YES, where))
    elif word == "range":
        block.ranges.append(rest)


def _add_default(block: Block, rest: str) -> None:
    for part in rest.split(" if ", 1):
        block.defaults += _maybe(part)


def _maybe(text: str) -> list[Expr]:
    try:
        return [parse_expr(text)]
    except ValueError:
        return []


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each statement, without comments and help texts, continued lines joined."""
    help_indent: int | None = None
    in_help = False
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.expandtabs(8).rstrip()
        if in_help:
            if not line:
                continue
            indent = len(line) - len(line.lstrip())
            if help_indent is None and indent > 0:
                help_indent = indent
            if help_indent is not None and indent >= help_indent:
                continue
            in_help = False
        line = line.strip()
        if not line or (line.startswith("#") and not pending):
            continue
        start = start if pending else number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip() + " "
            continue
        statement, pending = _uncomment(pending), ""
        if statement in ("help", "---help---"):
            in_help, help_indent = True, None
        elif statement:
            yield start, re.sub(r"\s+", " ", statement)


def _uncomment(line: str) -> str:
    if "#" not in line:
        return line
    match = re.match(r"(?:[^#\"']|\"(?:[^\"\\]|\\.)*\"|'[^']*')*", line)
    return match[0].rstrip() if match else line
