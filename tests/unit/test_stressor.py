# SPDX-License-Identifier: GPL-2.0-only
"""The stressor on a box without the module: it takes what the catalogue says, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.assets import asset
from harness.scenario.catalogue import (
    ChoiceParameter,
    IntParameter,
    Scenario,
    TextParameter,
    load_scenario,
    scenario_names,
)

NO_DEVICE, BAD_PARAMETER = 3, 2


@pytest.fixture
def stressor(programs: Path) -> Path:
    return programs / "hmm-stressor"


def good_and_bad(scenario: Scenario) -> Iterator[tuple[str, bool]]:
    for name, parameter in scenario.parameters.items():
        if isinstance(parameter, IntParameter):
            if not name.endswith("_cpu"):  # what is good there, the machine decides
                yield f"{name}={parameter.minimum}", True
                yield f"{name}={parameter.maximum}", True
            yield f"{name}={parameter.minimum - 1}", False
            yield f"{name}={parameter.default}x", False
        elif isinstance(parameter, ChoiceParameter):
            yield from ((f"{name}={choice}", True) for choice in parameter.choices)
            yield f"{name}=nonsense", False
        else:
            yield f"{name}={parameter.default}", True


@pytest.mark.skipif(Path("/dev/hmm_harness0").exists(), reason="the module is loaded on this machine")
@pytest.mark.parametrize("name", scenario_names())
def test_catalogue_and_stressor_agree(stressor: Path, name: str) -> None:
    scenario = load_scenario(name)
    # This machine may have an IGT, which is not what is tested here.
    last_word = ["runner=/nowhere"] if scenario.program == "igt" else []
    for word, good in good_and_bad(scenario):
        argv = [str(stressor), name, word, *last_word]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == (NO_DEVICE if good else BAD_PARAMETER), (word, done.stdout)
        last = json.loads(done.stdout.splitlines()[-1])
        assert last["type"] == "error"


def test_all_bad_parameters_are_named(stressor: Path) -> None:
    argv = [str(stressor), "trylock-starvation", "pages=0", "iteration=3"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert done.returncode == BAD_PARAMETER
    assert any("pages" in text for text in texts) and any("iteration" in text for text in texts)


def test_the_fuzzer_has_a_row_for_every_request() -> None:
    header = asset("kmod", "hmm_harness.h").read_text()
    requests = re.findall(r"#define HMM_HARNESS_(\w+) \\\n\t_IOW?R?\(", header)
    rows = re.findall(
        r'\{ "(\w+)", HMM_HARNESS_(\w+), \d+,', asset("kmod", "stressor", "fuzzcall.c").read_text()
    )
    assert len(requests) >= 9
    assert rows == [(name, name) for name in requests]


def test_texts_have_the_same_defaults_here_and_there(stressor: Path) -> None:
    shown = subprocess.run([stressor], capture_output=True, text=True, timeout=90, check=False).stderr
    parameters = load_scenario("xe-system-allocator").parameters
    texts = [name for name, parameter in parameters.items() if isinstance(parameter, TextParameter)]
    assert texts == ["runner", "tests", "include", "exclude"]
    for name in texts:
        assert f"  {name}=({parameters[name].default})  " in shown
