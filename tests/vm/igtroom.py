# SPDX-License-Identifier: GPL-2.0-only
"""A system whose IGT gives every kind of result: IGT's own meta_test, asked for, and a script beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.vm.userland import TESTS

#: Where the real meta_test is then; a test's name is that of its program.
_REAL = "opt/real"
_META_TEST = f"""#!/bin/sh
# IGT's own test of those who run its tests. It wants to be asked for.
IGT_CI_META_TEST=1 exec /{_REAL}/meta_test "$@"
"""
_PLAIN = """#!/bin/sh
# A test that speaks as IGT's do, for what meta_test has no case of.
case "$1" in --list-subtests) printf 'dmesg-fail\\nkills-runner\\nlast\\n'; exit 0;; esac
say() { echo "$1"; echo "$1" >&2; }
log() { echo "<6>[IGT] plain: $1" > /dev/kmsg; }
echo "IGT-Version: 0-plain (x86_64)"
log "executing"; log "starting subtest $2"; say "Starting subtest: $2"
result=SUCCESS status=0
case "$2" in
dmesg-fail) echo "<4>plain: the kernel says that something is wrong" > /dev/kmsg; result=FAIL status=98;;
kills-runner) kill -KILL "$PPID";;
esac
say "Subtest $2: $result (0.001s)"; log "finished subtest $2, $result"; log "exiting, ret=$status"
exit $status
"""


def every_kind(userland: Path, target: Path) -> Path:
    """A copy of a system with IGT, at `target`, in which `meta_test` and `plain` can be run."""
    shutil.copytree(userland, target, symlinks=True)
    tests = target / TESTS
    (target / _REAL).mkdir(parents=True)
    (tests / "meta_test").rename(target / _REAL / "meta_test")
    for name, text in (("meta_test", _META_TEST), ("plain", _PLAIN)):
        (tests / name).write_text(text)
        (tests / name).chmod(0o755)
    names = sorted(path.name for path in tests.iterdir() if path.suffix != ".txt")
    (tests / "test-list.txt").write_text(f"TESTLIST\n{' '.join(names)}\nEND TESTLIST\n")
    return target
