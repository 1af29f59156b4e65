# SPDX-License-Identifier: GPL-2.0-only
"""The store's SQLite file: its tables, how it is opened, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError, UserError

#: A writer waits so long for another, s; none writes for longer than a run takes to be read.
BUSY_S = 30.0
#: "HMMH": what tells the store from another program's database.
APPLICATION = 0x484D4D48

#: Each brings the store from the version of its position to the next one; none is ever changed.
MIGRATIONS = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        folder TEXT NOT NULL,
        name TEXT NOT NULL,
        verb TEXT NOT NULL,
        state TEXT NOT NULL,
        begun REAL NOT NULL,
        ended REAL,
        tree TEXT NOT NULL,
        scenario TEXT NOT NULL,
        outcome TEXT NOT NULL,
        trials INTEGER NOT NULL,
        bugs INTEGER NOT NULL,
        seconds REAL NOT NULL,
        reproduce TEXT NOT NULL,
        error TEXT NOT NULL,
        record TEXT NOT NULL,
        report TEXT NOT NULL
    );
    CREATE INDEX runs_begun ON runs (begun);
    CREATE INDEX runs_name ON runs (name);
    CREATE TABLE kernels (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        release TEXT NOT NULL,
        build TEXT NOT NULL,
        UNIQUE (name, release, build)
    );
    CREATE TABLE signatures (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE trials (
        run INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
        name TEXT NOT NULL,
        arm TEXT NOT NULL,
        idx INTEGER NOT NULL,
        seed INTEGER NOT NULL,
        begun REAL NOT NULL,
        scenario TEXT NOT NULL,
        preempt TEXT NOT NULL,
        kernel INTEGER NOT NULL REFERENCES kernels (number),
        outcome TEXT NOT NULL,
        answer INTEGER NOT NULL,
        bug INTEGER NOT NULL,
        signature INTEGER REFERENCES signatures (number),
        proof TEXT NOT NULL,
        windows INTEGER NOT NULL,
        iterations INTEGER NOT NULL,
        seconds REAL NOT NULL,
        title TEXT NOT NULL,
        metrics TEXT NOT NULL,
        PRIMARY KEY (run, name)
    ) WITHOUT ROWID;
    CREATE INDEX trials_begun ON trials (begun);
    CREATE INDEX trials_signature ON trials (signature, begun);
    CREATE INDEX trials_outcome ON trials (outcome, begun);
    CREATE INDEX trials_kernel ON trials (kernel, begun);
    CREATE INDEX trials_scenario ON trials (scenario, begun)
    """,
)

_FAULTS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_FOREIGN = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def default_store() -> Path:
    """`$XDG_STATE_HOME/hmm-harness/store.sqlite`, or below `~/.local/state`."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "hmm-harness" / "store.sqlite"


@contextlib.contextmanager
def opened(path: Path, *, create: bool = False, busy_s: float = BUSY_S) -> Iterator[sqlite3.Connection]:
    """The store's database, at the version that this program knows; statements commit by themselves.

    UserError if there is none (without `create`), if it is another program's or damaged, or if a newer
    version of this program wrote it. InfraError if the disk, or another writer, stands in the way. Where
    nothing can be written (a full disk, a mounted image) it can be read all the same, unless with `create`.
    """
    if not create and not path.is_file():
        raise UserError(
            f"there is no store at {path} yet",
            hint="it is written at the end of a run; `hmm-harness history --rebuild RUNS` reads run folders",
        )
    if create:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    with errors_named(path, busy_s), contextlib.closing(_connected(path, create, busy_s)) as connection:
        yield connection


def _connected(path: Path, create: bool, busy_s: float) -> sqlite3.Connection:
    place = f"file:{quote(str(path.resolve()))}"
    connection = sqlite3.connect(place, timeout=busy_s, isolation_level=None, uri=True)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # Whole after a power failure all the same; the last runs may be missing, and are in their folders.
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path, busy_s)
    except sqlite3.OperationalError as error:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        unread = log.exists() and log.stat().st_size > 0
        if create or unread or not error.sqlite_errorname.startswith(_FAULTS):
            raise
        # The index of the log cannot be made; but nobody can write either, and the log is empty.
        connection = sqlite3.connect(f"{place}?immutable=1", isolation_level=None, uri=True)
        connection.row_factory = sqlite3.Row
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction that writes: the block happens as a whole, after any other writer's, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # of a full disk it has been rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path, busy_s: float = BUSY_S) -> None:
    if _version(connection, path) == len(MIGRATIONS):
        return
    _log_ahead(connection, Deadline.after(busy_s))
    with writing(connection):
        # Another harness may have done it while this one waited.
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in MIGRATIONS[number].split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _log_ahead(connection: sqlite3.Connection, deadline: Deadline) -> None:
    """Readers and a writer do not wait for each other from now on. In this SQLite does not wait by itself."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or deadline.expired:
                raise
        time.sleep(0.02)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """How far the store is. UserError if it is none, or beyond this program."""
    # In one statement: another harness may be making it just now.
    version, application, tables = connection.execute(
        "SELECT (SELECT user_version FROM pragma_user_version), "
        "(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application != APPLICATION and (tables or version):
        raise UserError(f"{path} is another program's database", hint="give another --store")
    if version > len(MIGRATIONS):
        raise UserError(
            f"the store {path} has version {version}, this program knows up to {len(MIGRATIONS)}",
            hint="a newer version of this program wrote it: use that, or another --store",
        )
    return int(version)


@contextlib.contextmanager
def errors_named(path: Path, busy_s: float = BUSY_S) -> Iterator[None]:
    """What SQLite says of the file, as an error that names it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_FOREIGN):
            raise UserError(
                f"{path} is no store, or damaged: {error}",
                hint="move it away; `hmm-harness history --rebuild RUNS` makes it again from run folders",
            ) from error
        if name.startswith("SQLITE_BUSY"):
            raise InfraError(
                f"another harness has been writing to {path} for {busy_s:g} s", hint="try again"
            ) from error
        if name.startswith(_FAULTS):
            raise InfraError(
                f"cannot write the store {path}: {error}",
                hint="free some space there, or give another --store",
            ) from error
        raise
