# SPDX-License-Identifier: GPL-2.0-only
"""Who hears of a night: a program, and people by mail. What fails there is said, and changes no verdict."""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.nightly.model import MailOptions, NotifyOptions
from harness.process import run
from harness.results.night import NightResult
from harness.results.report import REPORT
from harness.results.runfolder import RECORD

#: What the program of `notify.command` said.
LOG = "notify.log"


def notify(options: NotifyOptions, done: NightResult, folder: Path) -> list[str]:
    """Tell everybody; what went wrong, in words. The report and the record are in `folder` by now."""
    if options.when == "news" and done.verdict == "nothing_new":
        return []
    return [*_tell_program(options, done, folder), *_tell_people(options.mail, done, folder)]


def _tell_program(options: NotifyOptions, done: NightResult, folder: Path) -> Iterator[str]:
    if not options.command:
        return
    environment = {
        "HMM_HARNESS_RECORD": str(folder / RECORD),
        "HMM_HARNESS_VERDICT": done.verdict,
    }
    try:
        with (folder / REPORT).open("rb") as report:
            ran = run(
                options.command,
                deadline=Deadline.after(options.timeout_s),
                env=environment,
                stdin=report,
                log=folder / LOG,
                check=False,
            )
    except (HarnessError, OSError) as error:
        yield f"notify.command: {error}"
        return
    if not ran.ok:
        yield f"notify.command: {options.command[0]} ended with {ran.status}; see {folder / LOG}"


def _tell_people(mail: MailOptions | None, done: NightResult, folder: Path) -> Iterator[str]:
    if mail is None:
        return
    try:
        send(mail, message(mail, done, (folder / REPORT).read_text(encoding="utf-8")))
    except (OSError, smtplib.SMTPException, ValueError) as error:
        # What a server answers may hold the name that was given, but never the password.
        yield f"notify.mail: {mail.host}:{mail.port}: {type(error).__name__}: {error}"


def message(mail: MailOptions, done: NightResult, report: str) -> EmailMessage:
    """The mail: a subject that says it all, and the report as text."""
    made = EmailMessage()
    made["Subject"] = f"[{done.name}] {done.night}: {done.verdict.replace('_', ' ')}: {done.reason}"[:200]
    made["From"], made["To"] = mail.sender, ", ".join(mail.to)
    made["Date"] = formatdate(localtime=True)
    made["Message-ID"] = make_msgid(domain=mail.sender.partition("@")[2])
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(report)
    return made


def send(mail: MailOptions, made: EmailMessage) -> None:
    """Hand a mail to the server. OSError, SMTPException or ValueError (a password that is none)."""
    with smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_s) as server:
        if mail.starttls:
            context = ssl.create_default_context()
            if mail.ca_file:
                context.load_verify_locations(mail.ca_file)
            server.starttls(context=context)
        if mail.user:
            server.login(mail.user, _password(mail))
        server.send_message(made)


def _password(mail: MailOptions) -> str:
    if mail.password_env:
        return os.environ.get(mail.password_env, "")
    return Path(mail.password_file).read_text(encoding="utf-8").strip()
