# SPDX-License-Identifier: GPL-2.0-only
"""A mail that answers a patch: who gets it, where it belongs, and when it may say Tested-by."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import EmailMessage
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.results.formats.options import Options
from harness.results.formats.reply import reply
from harness.results.formats.thread import read_thread
from harness.results.reading import load_run
from harness.results.runfolder import RECORD
from tests.unit.test_formats import HOSTILE, hostile_run, verdict

__all__ = ["hostile_run"]

LAB = "Prüfstand für Livelocks <lab@example.org>"
TESTED = f"Tested-by: {LAB}"
FIX = "<20261123090000.1-1-fix@example.org>"


def mail(folder: Path, mbox: Path | None = None, sender: str = LAB) -> EmailMessage:
    """What is sent, as its receiver reads it."""
    text = reply(load_run(folder), Options(mbox=mbox, sender=sender))
    assert text.isascii()  # whatever passes it on
    message = email.message_from_string(text, policy=email.policy.default)
    assert isinstance(message, EmailMessage) and not message.defects
    return message


def thread(place: Path, *mails: str) -> Path:
    """An mbox of mails that are given as headers and text."""
    path = place / "thread.mbox"
    path.write_text("".join(f"From x Mon Nov 23 10:00:00 2026\n{mail}\n" for mail in mails), encoding="utf-8")
    return path


def test_it_answers_the_mail_that_was_tried_and_all_who_got_it(recorded_run: Path) -> None:
    sent = mail(recorded_run)
    assert sent["From"] == LAB and sent["To"] == "Löser von Livelocks <fix@example.org>"
    assert [one.addr_spec for one in sent["Cc"].addresses] == [
        "linux-mm@example.org", "mm@example.org", "review@example.org",
    ]  # fmt: skip
    assert sent["Subject"].startswith("Re: [PATCH v2] mm: wait for a locked device-private page before")
    assert sent["In-Reply-To"] == FIX
    assert sent["References"].split() == ["<20261120090000.1-1-fix@example.org>", FIX]
    assert sent["Message-ID"].endswith("@example.org>") and sent["Message-ID"] != FIX


def test_the_text_fits_72_columns_and_holds_what_a_reader_asks_for(recorded_run: Path) -> None:
    text = mail(recorded_run).get_content()
    assert max(map(len, text.splitlines())) <= 72
    for wanted in (
        "verdict: fixed", "0.23 to 1.00", "preempt=none", "2 CPUs", "Debian linux-source-7.3", "54 windows",
        "fix: 01-fix.mbox, applied", "lru_add_drain_all", "hmm-harness compare --try fix.mbox",
    ):  # fmt: skip
        assert wanted in text
    assert text.endswith(f"\n\n{TESTED}\n")


@pytest.mark.parametrize("word", ["not_fixed", "inconclusive", "not_reproduced", "other_failure"])
def test_nothing_but_fixed_is_tested(recorded_run: Path, word: str) -> None:
    verdict(recorded_run, word)
    assert "Tested-by" not in mail(recorded_run).get_content()


def test_a_patch_that_was_not_in_the_candidate_is_not_tested(recorded_run: Path, tmp_path: Path) -> None:
    other = (
        (recorded_run / "patches" / "01-fix.mbox").read_bytes().replace(b"pte_unmap(vmf->pte)", b"return 0")
    )
    path = tmp_path / "other.mbox"
    path.write_bytes(other)
    text = mail(recorded_run, path).get_content()
    assert "verdict: fixed" in text and "Tested-by" not in text
    assert "does not carry the diff of this mail" in text


def test_a_series_is_answered_at_its_cover_letter_and_the_writer_gets_no_copy(
    recorded_run: Path, tmp_path: Path
) -> None:
    head = 'From: fix@example.org\nTo: lab@example.org, "List" <list@example.org>\nCc: FIX@example.org\n'
    patch = f"{head}Message-ID: <1@x>\nSubject: [PATCH 1/1] a\n\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    cover = f"{head}Message-ID: <0@x>\nSubject: Re: [PATCH 0/1] all\nReply-To: boss@example.org\n\nwords\n"
    sent = mail(recorded_run, thread(tmp_path, patch, cover))
    assert (sent["In-Reply-To"], sent["References"], sent["To"]) == ("<0@x>", "<0@x>", "boss@example.org")
    assert sent["Subject"] == "Re: [PATCH 0/1] all"
    assert [one.addr_spec for one in sent["Cc"].addresses] == ["fix@example.org", "list@example.org"]


def test_headers_that_somebody_else_wrote_stay_headers(recorded_run: Path, tmp_path: Path) -> None:
    evil = (
        "From: =?utf-8?q?a=0D=0ABcc:_all=40example=2Eorg?= <a@example.org>\n"
        "To: <no address>, Übel <b@example.org>\n"
        "Message-ID: <1@x>\nSubject: =?utf-8?q?x=0ABcc:_all=40example=2Eorg?=\n\ntext\n"
    )
    sent = mail(recorded_run, thread(tmp_path, evil))
    assert sent["Bcc"] is None and sent["To"].addresses[0].addr_spec == "a@example.org"
    assert str(sent["Cc"]) == "Übel <b@example.org>"


def test_what_a_guest_says_adds_no_lines(hostile_run: Path) -> None:
    text = mail(hostile_run).get_content()
    assert (
        max(map(len, text.splitlines())) <= 72 and "\x1b" not in text and HOSTILE[1] not in text.splitlines()
    )


def test_what_is_missing_is_said(
    recorded_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(recorded_run), "--format", "reply"]) == 2
    assert "git config user.name and user.email" in capsys.readouterr().err
    (recorded_run / "patches" / "01-fix.mbox").write_text("no mail")
    assert main(["export", str(recorded_run), "--format", "reply", "--from", LAB]) == 2
    assert "--mbox FILE" in capsys.readouterr().err
    with pytest.raises(UserError, match="no mail with a Message-ID"):
        read_thread(recorded_run / RECORD)


def test_a_run_of_one_trial_can_be_answered_with_too(recorded_run: Path) -> None:
    path = recorded_run / RECORD
    trial = json.loads((recorded_run / "trials" / "001-unfixed" / RECORD).read_text())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"verb": "run", "result": trial["result"]}))
    text = mail(recorded_run).get_content()
    assert text.startswith("verdict: livelock\n") and "Tested-by" not in text
