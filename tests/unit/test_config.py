# SPDX-License-Identifier: GPL-2.0-only
"""Experiments, scenarios and command-line words to frozen values; every defect with its place."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from harness.arguments import experiment_from, experiment_named
from harness.assets import asset
from harness.cli import grammar
from harness.config import (
    DebianTree,
    FolderTree,
    GitTree,
    TarballTree,
    builtin_experiments,
    load_experiment,
    parse_tree,
)
from harness.errors import UserError
from harness.experiment.kernels import experiment_for, kernel_request
from harness.kernel.kconfig import merge
from harness.kernel.patches import Catalogue
from harness.kernel.spec import KernelTree
from harness.scenario.catalogue import load_scenario, parse_settings, scenario_names
from harness.target.protocol import Machine
from harness.watch.kinds import OutcomeKind

GOOD = """\
scenario: trylock-starvation
kernels:
  a: {patches: []}
arms:
  one: {kernel: a, role: control}
  two: {kernel: a, role: candidate}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_defaults_fill_in_what_is_left_out(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, GOOD))
    assert (experiment.trials, experiment.boot.preempt, experiment.tree.kind) == (6, "none", "debian")
    assert experiment.arm_of("control") == "one"


@pytest.mark.parametrize(("version", "name"), [("6.12.117", "linux-6.12"), ("7.3.4", "linux-7")])
def test_the_default_for_a_version(version: str, name: str) -> None:
    assert experiment_for(version)[0] == name


@pytest.mark.parametrize(
    ("version", "scenario", "name"),
    [
        ("7.3.4", "trylock-starvation-forced", "linux-7"),
        ("7.3.4", "pmd-trylock-starvation", "linux-7-pmd"),
        ("7.3.4", "pmd-trylock-starvation-forced", "linux-7-pmd"),
        ("7.3.4", "slow-progress", "linux-7"),
        ("6.12.117", "pmd-trylock-starvation", "linux-6.12"),
    ],
)
def test_a_scenario_has_the_experiment_of_its_bug(version: str, scenario: str, name: str) -> None:
    assert experiment_for(version, scenario)[0] == name


def test_the_bugs_of_ptes_and_pmds_are_told_apart_by_their_frames() -> None:
    """Each where it spins; a stack from a part of the loop that both go through is either's."""
    pte, pmd = (load_scenario(f"{name}trylock-starvation").judge_by().rules[0] for name in ("", "pmd-"))
    loop = ("hmm_range_fault_locked", "hmm_range_fault", "hh_ioctl_fault")
    for top, owners in (
        (("do_swap_page", "__handle_mm_fault", "handle_mm_fault"), [pte]),
        (("do_huge_pmd_device_private", "__handle_mm_fault", "handle_mm_fault"), [pmd]),
        ((), [pte, pmd]),
        (("softleaf_entry_wait_on_locked", "do_huge_pmd_device_private"), []),
    ):
        stack = (*top, *loop)
        assert [rule for rule in (pte, pmd) if rule.matches(OutcomeKind.LIVELOCK, stack)] == owners


def test_the_pmd_scenario_is_for_kernels_that_have_such_folios() -> None:
    scenario = load_scenario("pmd-trylock-starvation")
    with pytest.raises(UserError, match=r"for kernels >=7.0, this is 6\.12\.117"):
        scenario.check_version("6.12.117")
    with pytest.raises(UserError, match="CONFIG_TRANSPARENT_HUGEPAGE, which the kernel was built without"):
        scenario.check_kernel("7.3.4", "# CONFIG_TRANSPARENT_HUGEPAGE is not set")
    small = load_experiment("linux-7").boot.model_copy(update={"memory_mb": 256})
    with pytest.raises(UserError, match="needs 640 MB of memory"):
        scenario.check(small, scenario.values({}))


def test_a_guest_that_is_to_boot_without_huge_pages_is_refused_before_it_does() -> None:
    scenario = load_scenario("pmd-trylock-starvation")
    boot = load_experiment("linux-7").boot
    never, always = "transparent_hugepage=never", "transparent_hugepage=always"
    for words, refused in (((), False), ((never,), True), ((never, always), False), ((always, never), True)):
        guest = boot.model_copy(update={"cmdline": words})
        load_scenario("trylock-starvation").check(guest, {})
        with pytest.raises(UserError, match=f"boots with {never}") if refused else nullcontext():
            scenario.check(guest, {})


@pytest.mark.parametrize("name", sorted(builtin_experiments()))
def test_builtin_experiments_name_patches_and_scenarios_that_exist(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.scenario in scenario_names()
    ids = set(Catalogue.load().ids)
    assert all(set(kernel.patches) <= ids for kernel in experiment.kernels.values())
    assert experiment.versions


def test_every_error_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = GOOD + "trails: 6\nseed: many\nboot:\n  cpus: 99\n  preemt: none\n"
    with pytest.raises(UserError) as caught:
        load_experiment(write(tmp_path, text))
    message = caught.value.message
    assert "mine.yaml:7: trails" in message and "trials" in message
    assert "mine.yaml:8: seed" in message
    assert "mine.yaml:10: boot.cpus" in message
    assert "mine.yaml:11: boot.preemt" in message and "preempt" in message


def test_a_string_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine.yaml:7: trials"):
        load_experiment(write(tmp_path, GOOD + 'trials: "6"\n'))


def test_an_unknown_kernel_of_an_arm_is_named_with_the_nearest(tmp_path: Path) -> None:
    text = GOOD.replace("kernel: a, role: candidate", "kernel: aa, role: candidate")
    with pytest.raises(UserError, match=r"arm two names the kernel aa.*did you mean a\?"):
        load_experiment(write(tmp_path, text))


def test_everything_a_file_names_is_looked_up_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("patches: []", "patches: [x86-preempt-choise, own.patch]") + "set: {iteration: 3}\n"
    with pytest.raises(UserError) as caught:
        experiment_named(write(tmp_path, text))
    message = caught.value.message
    assert "kernels.a.patches" in message and "did you mean x86-preempt-choice?" in message
    assert "did you mean iterations?" in message


def test_patches_of_a_file_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = asset("patches", "trylock-starvation", "wait-on-locked-7.0.patch")
    (tmp_path / "own.patch").write_bytes(shipped.read_bytes())
    monkeypatch.chdir("/")
    experiment = experiment_named(write(tmp_path, GOOD.replace("patches: []", "patches: [own.patch]")))
    assert experiment.kernels["a"].patches == (str(tmp_path / "own.patch"),)


@pytest.mark.parametrize(
    "line", ["versions: 7.x", "kernels: {a: {config: [HZ=1]}}"], ids=["versions", "setting"]
)
def test_malformed_ranges_and_settings_are_named_by_line(tmp_path: Path, line: str) -> None:
    text = "".join(part for part in GOOD.splitlines(keepends=True) if not line.startswith(part.split(":")[0]))
    text = text.replace("  a: {patches: []}\n", "") if line.startswith("kernels") else text
    with pytest.raises(UserError, match=r"mine.yaml:\d+: (versions|kernels)"):
        load_experiment(write(tmp_path, text + line + "\n"))


def test_two_controls_are_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="role: candidate"):
        load_experiment(write(tmp_path, GOOD.replace("role: candidate", "role: control")))


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"linux-77.*did you mean linux-7\?"):
        load_experiment("linux-77")


def test_trees_as_the_command_line_names_them() -> None:
    digest = "0" * 64
    assert parse_tree("debian") == DebianTree(package="newest")
    assert parse_tree("debian:linux-source-6.12") == DebianTree(package="linux-source-6.12")
    assert parse_tree(f"tarball:http://h/l.tar.xz#sha256={digest}") == TarballTree(
        kind="tarball", url="http://h/l.tar.xz", sha256=digest
    )
    assert parse_tree("git:/src/linux@v7.0") == GitTree(kind="git", url="/src/linux", revision="v7.0")
    assert parse_tree("git:ssh://me@host/linux") == GitTree(kind="git", url="ssh://me@host/linux")
    assert parse_tree("git:/src/linux@drm-misc/for-next").model_dump()["revision"] == "drm-misc/for-next"
    assert parse_tree("git:me@host:linux@v7.0") == GitTree(kind="git", url="me@host:linux", revision="v7.0")
    assert parse_tree("git:ssh://me@host/linux@a/b") == GitTree(
        kind="git", url="ssh://me@host/linux", revision="a/b"
    )
    assert parse_tree("folder:/src/linux") == FolderTree(kind="folder", path="/src/linux")


@pytest.mark.parametrize(
    "text", ["", "svn:x", "git:", "folder:", "tarball:http://h/x", "tarball:u#sha256=12"]
)
def test_a_tree_that_cannot_be_read_says_what_can(text: str) -> None:
    with pytest.raises(UserError, match="cannot read the tree") as caught:
        parse_tree(text)
    assert "debian" in caught.value.hint


def test_scenario_values_name_every_defect() -> None:
    scenario = load_scenario("trylock-starvation")
    with pytest.raises(UserError) as caught:
        scenario.values({"pages": "0", "iteration": 3, "policy": "fifi", "seed_": 1})
    message = caught.value.message
    assert "pages=0: must be from 1 to" in message
    assert "iteration: no such parameter (did you mean iterations?)" in message
    assert "policy=fifi: must be one of" in message and "did you mean fifo?" in message
    assert "seed_: no such parameter" in message


def test_scenario_values_from_words() -> None:
    values = load_scenario("trylock-starvation").values(parse_settings(["iterations=7", "policy=rr"]))
    assert (values["iterations"], values["policy"], values["pages"]) == (7, "rr", 511)


def test_a_guest_that_cannot_run_the_scenario_is_refused_before_it_boots() -> None:
    scenario = load_scenario("trylock-starvation")
    boot = load_experiment("linux-7").boot
    with pytest.raises(UserError, match="needs 2 CPUs, the guest has 1"):
        scenario.check(boot.model_copy(update={"cpus": 1}), scenario.values({}))
    with pytest.raises(UserError, match=r"spinner_cpu=5, but the guest has CPUs 0 to 1"):
        scenario.check(boot, scenario.values({"spinner_cpu": 5}))
    for name, one, other in (
        ("trylock-starvation", "holder_cpu", "spinner_cpu"),
        ("lock-hog", "hog_cpu", "faulter_cpu"),
        ("failed-migration", "holder_cpu", "waiter_cpu"),
        ("two-devices", "first_cpu", "second_cpu"),
    ):
        scenario = load_scenario(name)
        with pytest.raises(UserError, match=f"{other}=1 must differ from {one}"):
            scenario.check(boot, scenario.values({one: 1}))


def test_a_kernel_that_cannot_run_the_scenario_is_refused_before_it_boots() -> None:
    scenario = load_scenario("trylock-starvation")
    needs = scenario.needs.model_copy(
        update={"versions": ">=7.0", "config": ("CONFIG_TRANSPARENT_HUGEPAGE",), "memory_mb": 2048}
    )
    choosy = scenario.model_copy(update={"needs": needs, "module": {"devices": 2, "device_mb": 64}})
    config = "CONFIG_64BIT=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\n"
    choosy.check_kernel("7.0.3", config)
    with pytest.raises(UserError, match=r"for kernels >=7\.0, this is 6\.12\.117"):
        choosy.check_kernel("6.12.117", config)
    with pytest.raises(UserError, match="needs CONFIG_TRANSPARENT_HUGEPAGE"):
        choosy.check_kernel("7.0.3", config.replace("HUGEPAGE=y", "HUGEPAGE is not set"))
    with pytest.raises(UserError, match="needs 2048 MB of memory, the guest has 1024"):
        choosy.check(load_experiment("linux-7").boot, choosy.values({}))
    assert choosy.module_words == ("devices=2", "device_mb=64")


def test_the_forced_scenario_refuses_what_it_has_no_window_for() -> None:
    scenario = load_scenario("trylock-starvation-forced")
    with pytest.raises(UserError) as caught:
        scenario.values({"window": "notify", "hold_ms": 0, "iterations": "all"})
    message = caught.value.message
    assert "window=notify: must be one of" in message and "did you mean notifier?" in message
    assert "hold_ms=0: must be from 1 to 10000 ms" in message and "iterations=all" in message
    assert scenario.values({})["iterations"] == 1, "one decides"
    race = load_scenario("trylock-starvation")
    assert scenario.oracle == race.oracle and scenario.bug == race.bug
    with pytest.raises(UserError, match="window: no such parameter"):
        race.values({"window": "work"})


def test_an_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean trylock-starvation\?"):
        load_scenario("trylock-starving")


@pytest.mark.parametrize("word", ["iterations", "=3"])
def test_a_setting_without_key_or_value_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="key=value"):
        try:
            parse_settings([word])
        except UserError as error:
            raise UserError(f"{error.message} {error.hint}") from error


def test_seeds_are_the_first_seed_and_the_number_of_trials() -> None:
    arguments = grammar().parse_args(["compare", "--clock", "virtual", "--seeds", "5..24"])
    experiment = experiment_from(arguments, load_experiment("linux-7"))
    assert (experiment.seed, experiment.trials, experiment.boot.clock) == (5, 20, "virtual")


def test_one_seed_is_one_trial() -> None:
    arguments = grammar().parse_args(["compare", "--seeds", "0..0"])
    experiment = experiment_from(arguments, load_experiment("linux-7"))
    assert (experiment.seed, experiment.trials, experiment.boot.clock) == (0, 1, "host")


@pytest.mark.parametrize("machine", ["microvm", "q35"])
def test_the_debug_fragment_adds_to_a_kernel_what_no_other_fragment_contradicts(machine: Machine) -> None:
    arguments = grammar().parse_args(["run", "--kernel", "base", "--fragment", "debug"])
    experiment = experiment_from(arguments, load_experiment("linux-7"))
    tree = KernelTree(Path("/nowhere"), "7.3.4", "ident", "a tree", "origin")
    plain = kernel_request(tree, (), load_experiment("linux-7").kernels["base"], machine)
    debug = kernel_request(tree, (), experiment.kernels["base"], machine)
    added = set(merge(debug.fragments)) - set(merge(plain.fragments))
    assert {"PROVE_LOCKING", "KASAN_GENERIC", "DEBUG_KMEMLEAK"} <= {setting.symbol for setting in added}
    assert experiment.kernels["base"].patches == load_experiment("linux-7").kernels["base"].patches


def test_box_takes_the_place_of_a_machine() -> None:
    tree = KernelTree(Path("/nowhere"), "7.3.4", "ident", "a tree", "origin")
    kernel = load_experiment("linux-7").kernels["base"].model_copy(update={"fragments": ("box",)})
    one, other = (kernel_request(tree, (), kernel, machine) for machine in ("microvm", "q35"))
    assert one == other
    settings = {setting.symbol: setting.value for setting in merge(one.fragments, one.extra)}
    assert settings["NET"] == settings["VIRTIO_MMIO"] == settings["SATA_AHCI"] == "y"


def test_a_target_that_is_qemu_lends_a_device_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text("qemu:\n  vfio: 0000:03:00.0\n  userland: system\n")
    arguments = grammar().parse_args(["run", "--kernel", "base", "--target", str(file)])
    experiment = experiment_from(arguments, load_experiment("linux-7"))
    assert (experiment.target, experiment.boot.machine) == ("", "q35")
    assert experiment.qemu.vfio == "0000:03:00.0"
    assert experiment.qemu.userland == str(tmp_path / "system")
    file.write_text('qemu:\n  vfio: "03:00.0"\nssh: {}\n')
    with pytest.raises(UserError, match=r"gpu\.yaml:2: qemu\.vfio.*\n.*gpu\.yaml:3: ssh: unknown key"):
        experiment_from(arguments, load_experiment("linux-7"))
