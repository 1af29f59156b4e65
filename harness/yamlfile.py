# SPDX-License-Identifier: GPL-2.0-only
"""YAML files read into pydantic models; every error at once, each with its line."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pydantic
import yaml
from pydantic import BaseModel

from harness.errors import UserError
from harness.suggest import nearest

Model = TypeVar("Model", bound=BaseModel)
_Loc = tuple[int | str, ...]

#: libyaml's parser, ten times as fast, where PyYAML was built with it.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Loader: TypeAlias = "yaml.SafeLoader | yaml.CSafeLoader"

#: No file of ours nests by half as much; an alias that stands for itself nests without an end.
_DEEPEST = 40
#: Letters of a value that a message shows.
_SHOWN = 60
#: Words since YAML 1.2; PyYAML still takes them for true and false.
_WORDS = frozenset({"on", "off", "yes", "no"})
#: So is a PCI address for a number, of base 60.
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into `model`.

    UserError lists every error as `file:line: key: message (hint)`: syntax, duplicate and unknown keys, wrong
    types, missing keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_yaml(text, str(path), model)


def parse_yaml(text: str, name: str, model: type[Model]) -> Model:
    """`load_yaml` of a text that is at hand; `name` stands for the file in the errors."""
    lines: dict[_Loc, int] = {}
    errors: list[tuple[int, str]] = []
    try:
        data = _read(text, lines, errors)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(f"{name}:{line}: {error.problem or 'not YAML'}", hint="correct the file") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}:{line}: {error.reason}", hint="correct the file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name}:1: {error}", hint="correct the file") from error
    except RecursionError as error:
        raise UserError(f"{name}: this is nested too deep", hint="correct the file") from error
    result: Model | None = None
    try:
        result = model.model_validate(data)
    except pydantic.ValidationError as error:
        found = error.errors()
        # A list is also too short then, as what is wrong in it was left out.
        places = {item["loc"][:-1] for item in found}
        told = [item for item in found if item["type"] != "too_short" or item["loc"] not in places]
        errors += [_explain(item, model, lines) for item in told]
    if errors or result is None:
        shown = [f"{name}:{line}: {message}" for line, message in sorted(errors)]
        raise UserError("\n".join(shown), hint=f"{len(shown)} error{'s' * (len(shown) > 1)} in {name}")
    return result


def _read(text: str, lines: dict[_Loc, int], errors: list[tuple[int, str]]) -> Any:
    """The values of a text. What libyaml refuses, PyYAML's own parser reads again: its errors say more."""
    try:
        return _values(FastLoader(text), lines, errors)
    except (yaml.YAMLError, RecursionError, UnicodeEncodeError):
        lines.clear()
        errors.clear()
        return _values(yaml.SafeLoader(text), lines, errors)


def _values(loader: _Loader, lines: dict[_Loc, int], errors: list[tuple[int, str]]) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            node = yaml.MappingNode("tag:yaml.org,2002:map", [])
        return _build(loader, node, (), lines, errors)
    finally:
        loader.dispose()


def _build(
    loader: _Loader,
    node: yaml.Node,
    where: _Loc,
    lines: dict[_Loc, int],
    errors: list[tuple[int, str]],
) -> Any:
    """The value of a node; `lines` gets the line of each key and element below it."""
    first = node.start_mark.line + 1 if node.start_mark else 1
    lines.setdefault(where, first)
    if len(where) > _DEEPEST:
        problem = "this is nested too deep (does an alias stand for itself?)"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python/"):
        errors.append((first, f"{_dotted(where)}: the tag {node.tag!r} is not known (leave it out)"))
        return None
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _construct(loader, key_node, where, errors)
            if not isinstance(key, str):
                errors.append(
                    (line, f"{_dotted((*where, str(key)))}: a key must be a string (put it in quotes)")
                )
                key = str(key)
            if key in result:
                errors.append((line, f"{_dotted((*where, key))}: this key is given twice"))
            lines[(*where, key)] = line
            result[key] = _build(loader, value_node, (*where, key), lines, errors)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(loader, child, (*where, index), lines, errors) for index, child in enumerate(node.value)
        ]
    return _construct(loader, node, where, errors)


def _construct(loader: _Loader, node: yaml.Node, where: _Loc, errors: list[tuple[int, str]]) -> Any:
    """The value of a scalar or key; with an error its text."""
    if node.tag == "tag:yaml.org,2002:bool" and str(node.value).lower() in _WORDS:
        return node.value
    if node.tag in _NUMBERS and ":" in node.value:
        return node.value
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError):
        # How PyYAML meets a text that is not of its type: the 30th of February, `!!int abc`, `!!bool abc`.
        kind = node.tag.rpartition(":")[2]
        shown = str(node.value)[:40]
        errors.append((node.start_mark.line + 1, f"{_dotted(where)}: {shown!r} is no {kind}"))
        return node.value


def _dotted(where: _Loc) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top)"


def _explain(item: Any, model: type[BaseModel], lines: dict[_Loc, int]) -> tuple[int, str]:
    """Line and `key: message (hint)` of one of pydantic's errors."""
    loc: _Loc = item["loc"]
    # Pydantic adds elements for union members and validators; those are in no file.
    real: _Loc = ()
    for part in loc:
        if (*real, part) in lines:
            real = (*real, part)
    line = lines.get(real, 1)
    kind, message = item["type"], item["msg"]
    if kind == "extra_forbidden":
        known = sorted(_keys(model, real[:-1]))
        close = nearest(str(loc[-1]), known)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
        return line, f"{_dotted(real)}: unknown key ({hint})"
    if kind == "missing":
        return line, f"{_dotted((*real, loc[-1]))}: is missing"
    message = message.removeprefix("Value error, ")
    given = item.get("input")
    if not real and not isinstance(given, dict):
        return line, f"keys and values are wanted (found {_short(given)})"
    shown = "" if isinstance(given, dict | list) or kind == "value_error" else f" (found {_short(given)})"
    return line, f"{_dotted(real)}: {message}{shown}"


def _short(value: Any) -> str:
    """A value as a message shows it: what is in a file that is none of ours is nobody's business."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _keys(model: type[BaseModel], where: _Loc) -> set[str]:
    """The keys that the model at a place below `model` knows."""
    current: set[type[BaseModel]] = {model}
    for part in where:
        following: set[type[BaseModel]] = set()
        for candidate in current:
            for name, field in candidate.model_fields.items():
                if isinstance(part, int) or part in (name, field.alias):
                    following |= _models(field.annotation)
        # An index, or a free key of a mapping, stays in the models its container led to.
        current = following if following and not isinstance(part, int) else current
    return {field.alias or name for candidate in current for name, field in candidate.model_fields.items()}


def _models(annotation: Any) -> set[type[BaseModel]]:
    """All models in an annotation such as `dict[str, list[Entry]] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for part in typing.get_args(annotation) for found in _models(part)}
