# SPDX-License-Identifier: GPL-2.0-only
"""Who hears of a night: a program, and a real SMTP server on the loopback, with TLS and login too."""

from __future__ import annotations

import datetime
import email
import email.policy
import ipaddress
import json
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.nightly.model import MailOptions, NotifyOptions
from harness.nightly.notify import LOG, notify
from harness.results.night import NightResult, NightVerdict
from harness.results.report import REPORT
from harness.results.runfolder import RECORD, read_record
from tests.ports import free_port
from tests.unit.nightroom import FILE, Room, Verbs

PASSWORD = "correct horse battery staple"


class Inbox:
    """What the server was sent."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.to += envelope.rcpt_tos
        return "250 OK"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    yield from _serving()


def _serving(**how: Any) -> Iterator[tuple[Inbox, int]]:
    box = Inbox()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, **how)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


def finished(folder: Path, verdict: NightVerdict = "regression") -> NightResult:
    (folder / REPORT).write_text("verdict: regression\n  a line — with a dash\n")
    (folder / RECORD).write_text("{}")
    return NightResult(
        name="hmm", night="2026-11-29", target="qemu", verdict=verdict, reason="mainline: livelock",
        findings=(), still=(), known=(), complaints=(), detectors=None, trees=(), units=(), cells=(),
        compared=(), nights=7, false_alarm=0.01, budget_minutes=1.0, seconds=1.0, evidence=str(folder),
        reproduce="",
    )  # fmt: skip


def mail(port: int, **more: object) -> NotifyOptions:
    given = {"to": ["list@example.org", "b@example.org"], "from": "ci@example.org", "host": "127.0.0.1"}
    return NotifyOptions(mail=MailOptions.model_validate({**given, "port": port, **more}))


def test_the_report_comes_by_mail(inbox: tuple[Inbox, int], tmp_path: Path) -> None:
    box, port = inbox
    assert notify(mail(port), finished(tmp_path), tmp_path) == []
    (made,) = box.mails
    assert made["Subject"] == "[hmm] 2026-11-29: regression: mainline: livelock"
    assert made["From"] == "ci@example.org" and box.to == ["list@example.org", "b@example.org"]
    assert made.get_content().splitlines() == (tmp_path / REPORT).read_text().splitlines()


def test_no_news_is_no_mail_if_so_asked(inbox: tuple[Inbox, int], tmp_path: Path) -> None:
    box, port = inbox
    options = mail(port).model_copy(update={"when": "news"})
    assert notify(options, finished(tmp_path, "nothing_new"), tmp_path) == [] and box.mails == []
    assert notify(options, finished(tmp_path, "not_judged"), tmp_path) == [] and len(box.mails) == 1


def certificate(place: Path) -> ssl.SSLContext:
    """A certificate for 127.0.0.1, `ca.pem` below `place`, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (place / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "key.pem").write_bytes(private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place / "ca.pem", place / "key.pem")
    return context


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Inbox, int]]:
    """A server that takes mail after STARTTLS and a login only."""

    def check(server: SMTP, session: Session, envelope: Envelope, kind: str, data: object) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ci", PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    context = certificate(tmp_path)
    yield from _serving(tls_context=context, require_starttls=True, authenticator=check, auth_required=True)


@pytest.mark.parametrize("way", ["password_file", "password_env"])
def test_tls_and_login_with_a_password_that_is_written_nowhere(
    guarded: tuple[Inbox, int],
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    box, port = guarded
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
    place = str(tmp_path / "secret") if way == "password_file" else "SMTP_PASSWORD"
    safe = {"starttls": True, "ca_file": str(tmp_path / "ca.pem"), "user": "ci", way: place}
    folder = tmp_path / "night"
    folder.mkdir()
    assert notify(mail(port, **safe), finished(folder), folder) == [] and len(box.mails) == 1
    # A wrong one, a stranger's certificate, no TLS: said in words, and the password is not among them.
    (tmp_path / "secret").write_text(f"{PASSWORD}!")
    monkeypatch.setenv("SMTP_PASSWORD", f"{PASSWORD}!")
    said = [
        *notify(mail(port, **safe), finished(folder), folder),
        *notify(mail(port, **{**safe, "ca_file": ""}), finished(folder), folder),
        *notify(mail(port), finished(folder), folder),
    ]
    assert len(said) == 3 and len(box.mails) == 1
    assert "SMTPAuthenticationError" in said[0] and "CERTIFICATE_VERIFY_FAILED" in said[1]
    printed = capfd.readouterr()
    everything = [*said, printed.out, printed.err, *(path.read_text() for path in folder.iterdir())]
    assert not any(PASSWORD in text for text in everything)


def test_a_server_that_is_not_there_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = (
        "notify:\n  command: [./tell, loudly]\n  mail: {to: [a@example.org], from: b@example.org, port: 9}\n"
    )
    room = Room(tmp_path, monkeypatch, FILE + tell)
    program = tmp_path / "tell"
    program.write_text('#!/bin/sh\ncat; echo "$1 $HMM_HARNESS_VERDICT $HMM_HARNESS_RECORD"; exit 7\n')
    program.chmod(0o755)
    assert room.night(Verbs()) == 0
    (folder,) = room.folders
    said = capsys.readouterr().err
    assert f"warning: notify.command: {program} ended with 7" in said and "notify.mail: localhost:9" in said
    log = (folder / LOG).read_text()
    assert (folder / REPORT).read_text() in log and f"loudly nothing_new {folder / RECORD}" in log
    assert len(read_record(folder)["unheard"]) == 2 and json.loads((folder / RECORD).read_text())["result"]


@pytest.mark.parametrize("command", [["sleep", "60"], ["/nonexistent"]])
def test_a_program_that_hangs_or_is_not_there_is_said(command: list[str], tmp_path: Path) -> None:
    options = NotifyOptions.model_validate({"command": command}).model_copy(update={"timeout_s": 0.05})
    (said,) = notify(options, finished(tmp_path), tmp_path)
    assert "did not end in time" in said or "is not installed" in said
