# SPDX-License-Identifier: GPL-2.0-only
"""What another machine is sent of a kernel: each file once, by content, and never a damaged one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.cli import main
from harness.errors import InfraError, UserError
from harness.experiment.kit import Part, Shelf, at_place, kit_of, pack, part_path
from harness.experiment.placement import Host, Need
from harness.experiment.trial import fingerprint
from tests.unit.runroom import kernel


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(Cache(tmp_path / "elsewhere"))


def test_two_kernels_arrive_and_what_they_share_is_sent_once(tmp_path: Path, shelf: Shelf) -> None:
    sent = []
    for name in ("one", "other"):
        mine = kernel(tmp_path / "here", name)
        mine.build.vmlinux.write_text(f"{name}\n")
        mine.programs.init.write_text("the same init\n")
        kit = kit_of(mine)
        for part in shelf.missing(kit):
            shelf.put(part, pack(part_path(mine, part)))
            sent.append(part.name)
        assert shelf.missing(kit) == ()
        theirs = at_place(mine, shelf.lay_out(kit))
        for ours, there in (
            (mine.build.boot_image, theirs.build.boot_image),
            (mine.build.vmlinux, theirs.build.vmlinux),
            (mine.build.system_map, theirs.build.system_map),
            (mine.programs.module_debug, theirs.programs.module_debug),
            (mine.programs.init, theirs.programs.init),
        ):
            assert ours != there and ours.read_bytes() == there.read_bytes()
        assert fingerprint(theirs) == fingerprint(mine), (
            "a trial says the same of what it ran, wherever it ran"
        )
    assert len(sent) == len(set(sent)) and "builds/other/vmlinux" in sent and "builds/other/init" not in sent


def test_a_damaged_file_is_not_kept(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / "file").write_text("something else")
    part = Part("builds/x/vmlinux", "0" * 64)
    with pytest.raises(InfraError, match="builds/x/vmlinux did not arrive"):
        shelf.put(part, pack(tmp_path / "file"))
    assert shelf.missing((part,)) == (part,)
    assert list(shelf.cache.folder("blobs").iterdir()) == []


def test_workers_that_cannot_do_it_are_refused() -> None:
    pytest.importorskip("distributed")
    from harness.experiment.cluster import check_workers
    from harness.experiment.errand import About, version

    def about(machine: str, threads: int = 1, version: str = version()) -> About:
        return About(version, machine, Host(4, 8000), threads)

    pair = Need(2, 1000)
    check_workers({"tcp://a:1": about("a", 2), "tcp://b:1": about("b"), "tcp://b:2": about("b")}, [pair])
    with pytest.raises(UserError, match="b has 3 worker threads and room for 2 trials"):
        check_workers({"tcp://b:1": about("b", 2), "tcp://b:2": about("b")}, [Need(1, 10), pair])
    with pytest.raises(UserError, match=r"version 0\.0\.1 of this harness"):
        check_workers({"tcp://a:1": about("a", version="0.0.1")}, [pair])
    with pytest.raises(InfraError, match="No module named 'harness'"):
        check_workers({"tcp://a:1": ModuleNotFoundError("No module named 'harness'")}, [pair])


@pytest.mark.parametrize("address", ["garbage", "tcp://host", "tcp://host:port", "host:8786"])
def test_what_is_no_address_is_refused_before_anything_is_built(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    assert main(["matrix", "--scheduler", address, "--out", str(tmp_path)]) == 2
    assert f"--scheduler {address}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from harness.experiment import cluster

    monkeypatch.setattr(cluster, "_CONNECT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InfraError, match=f"no Dask scheduler answers at tcp://127.0.0.1:{port}"):
        cluster.check_address(f"tcp://127.0.0.1:{port}")
