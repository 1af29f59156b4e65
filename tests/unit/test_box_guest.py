# SPDX-License-Identifier: GPL-2.0-only
"""A box without its boots: the real agent, started over SSH on this machine."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.assets import asset
from harness.deadline import Deadline
from harness.errors import UserError
from harness.guest.initramfs import archive, copy, file, regular_files, write_initramfs
from harness.guest.plan import PLAN_PATH, Exec, PowerOff, Step, plan_text
from harness.guest.protocol import Exit, Hello, Message, parse_line
from harness.kmod import STATIC_FLAGS, compile_static
from harness.target.box import guest as guest_module
from harness.target.box import install as install_module
from harness.target.box import machine as machine_module
from harness.target.box.bootmethod import NoBoot
from harness.target.box.config import BoxConfig
from harness.target.box.guest import BoxGuest
from harness.target.box.install import install
from harness.target.box.journal import Journal
from harness.target.box.machine import Box
from harness.target.protocol import AgentLine, BootPlan, GuestEnded, RawEvent, Sample
from harness.target.recording import replay
from tests.unit.boxroom import SshServer, ssh_server

#: include/uapi/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
#: Says one thing, and the others once the file is there that it is told of.
SAY = """#!/bin/sh
for n in 1 2 3; do
    echo "{\\"type\\":\\"say\\",\\"n\\":$n}"
    while [ ! -e "$1" ]; do sleep 0.02; done
done
"""


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init")
    source = asset("qemu", "init.c")
    compile_static(folder / "init", [source], STATIC_FLAGS, folder / "log", Deadline.after(60))
    return folder / "init"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    # This machine's own settings stay as they are: `tee` writes nowhere, and its /run is not used.
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tee").write_text("#!/bin/sh\nexec cat >/dev/null\n")
    (tools / "tee").chmod(0o755)
    monkeypatch.setattr(machine_module, "RUN_FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(guest_module, "RUN_FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(guest_module, "_OUTPUT", str(tmp_path / "run" / "agent.jsonl"))
    with ssh_server(tmp_path, PATH=f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin") as running:
        yield running


@pytest.fixture
def orphanage() -> Iterator[None]:
    """Makes this process the one that buries orphans, as the init of a box does at once.

    The one of this machine may take seconds, and that of a container may never do it.
    """
    prctl = ctypes.CDLL(None).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
    yield
    assert prctl(_PR_SET_CHILD_SUBREAPER, 0) == 0


def started(server: SshServer, init: Path, folder: Path, steps: list[Step]) -> BoxGuest:
    entries = [
        copy("init", init, executable=True),
        file("say", SAY.encode(), executable=True),
        file(PLAN_PATH, plan_text(steps).encode()),
    ]
    plan = BootPlan(init, write_initramfs(folder / "initramfs.cpio", entries))
    config = BoxConfig(name="lab1", ssh=server.ssh, folder=str(folder / "box"))
    box = Box(config, server.ssh, None, None)
    install(box, plan, kernel=False)
    return BoxGuest(box, NoBoot(), plan, "token", folder, Journal(folder))


def heard(guest: BoxGuest, text: str) -> list[RawEvent]:
    """Events until the agent has said a line with that in it."""
    events: list[RawEvent] = []
    deadline = Deadline.after(60)
    while event := guest.next_event(deadline):
        events.append(event)
        if isinstance(event, AgentLine) and text in event.text:
            return events
    raise AssertionError(f"it ended: {events[-3:]}, {guest.steps}")


def run_to_the_end(
    guest: BoxGuest, folder: Path, before: Sequence[RawEvent] = ()
) -> tuple[list[RawEvent], list[Message]]:
    deadline = Deadline.after(60)
    events = list(before)
    while event := guest.next_event(deadline):
        events.append(event)
    guest.close()
    assert list(replay(folder)) == events
    messages = [parse_line(event.text) for event in events if isinstance(event, AgentLine)]
    assert not [event for event in events if isinstance(event, Sample) and event.cpus]
    return events, messages  # type: ignore[return-value]


def test_the_agent_is_heard_to_its_end_across_a_cut(
    server: SshServer, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orphanage: None
) -> None:
    monkeypatch.setattr(machine_module, "_AGAIN_S", 0.05)
    monkeypatch.setattr(guest_module, "_TICK_S", 0.05)
    steps: list[Step] = [Exec("/say", (str(tmp_path / "on"),)), Exec("/bin/true"), PowerOff()]
    guest = started(server, init, tmp_path, steps)
    before = heard(guest, '"n":1')
    (pid,) = (int(step.detail.split()[1]) for step in guest.steps if step.name == "agent")
    threading.Thread(target=os.waitpid, args=(pid, 0), daemon=True).start()
    server.cut()
    (tmp_path / "on").touch()
    events, messages = run_to_the_end(guest, tmp_path, before)
    assert isinstance(messages[0], Hello)
    assert [m.model_extra["n"] for m in messages if m.model_extra and "n" in m.model_extra] == [1, 2, 3]
    assert [(m.path, m.status) for m in messages if isinstance(m, Exit)] == [("/say", 0), ("/bin/true", 0)]
    assert isinstance(events[-1], GuestEnded) and events[-1].how == "exited"
    assert "the connection stands again" in [step.detail for step in guest.steps if step.name == "SSH"]


def test_stopped_before_its_end(server: SshServer, init: Path, tmp_path: Path) -> None:
    guest = started(server, init, tmp_path, [Exec("/bin/sleep", ("30",))])
    before = heard(guest, "")
    guest.stop()
    events, _ = run_to_the_end(guest, tmp_path, before)
    assert isinstance(events[-1], GuestEnded) and events[-1].how == "stopped"


def test_another_kernel_than_the_one_that_was_built(server: SshServer, init: Path, tmp_path: Path) -> None:
    entries = [copy("init", init, executable=True), file(PLAN_PATH, b"poweroff\n")]
    image = write_initramfs(tmp_path / "initramfs.cpio", entries)
    plan = BootPlan(init, image, build_id="0123abcd")
    box = Box(BoxConfig(name="lab1", ssh=server.ssh, folder=str(tmp_path / "box")), server.ssh, None, None)
    guest = BoxGuest(box, NoBoot(), plan, "token", tmp_path, Journal(tmp_path))
    with pytest.raises(Exception, match=r"box lab1 runs a kernel with the build ID .*, not 0123abcd"):
        while guest.next_event(Deadline.after(20)):
            pass
    guest.close()


def test_modules_never_take_the_place_of_another_kernels(
    server: SshServer, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "lib" / "modules" / "6.12.1"
    monkeypatch.setattr(install_module, "MODULES", str(there.parent))
    (tmp_path / "tools" / "tee").write_text('#!/bin/sh\nexec cat > "$1"\n')
    (tmp_path / "tools" / "depmod").symlink_to("/bin/true")
    build = tmp_path / "build"
    module = build / "modules" / "lib" / "modules" / "6.12.1" / "extra" / "a.ko.xz"
    module.parent.mkdir(parents=True)
    (build / "bzImage").touch()
    plan = BootPlan(build / "bzImage", write_initramfs(tmp_path / "initramfs.cpio", []))
    box = Box(BoxConfig(name="lab1", ssh=server.ssh, folder=str(tmp_path / "box")), server.ssh, None, None)
    for content in ("one", "two"):
        module.write_text(content)
        assert "modules.tar" in install(box, plan, kernel=True)
        assert (there / "extra" / "a.ko.xz").read_text() == content
        # Killed behind the copy, before it was unpacked.
        (there / ".hmm-harness").write_text("")
        (there / "extra" / "a.ko.xz").unlink()
        assert install(box, plan, kernel=True) == "all there already"
        assert (there / "extra" / "a.ko.xz").read_text() == content
    (there / ".hmm-harness").unlink()
    module.write_text("three")
    with pytest.raises(UserError, match=r"has the modules of another kernel in .*/6\.12\.1"):
        install(box, plan, kernel=True)
    assert (there / "extra" / "a.ko.xz").read_text() == "two"


def test_what_goes_into_an_initramfs_comes_out(init: Path) -> None:
    entries = [copy("init", init, executable=True), file("a/b", b"x" * 5), file("empty", b"")]
    assert list(regular_files(archive(entries))) == entries
    with pytest.raises(ValueError, match="cut short"):
        list(regular_files(archive(entries)[:-200]))
