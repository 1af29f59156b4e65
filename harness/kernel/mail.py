# SPDX-License-Identifier: GPL-2.0-only
"""Diffs taken out of what people send: plain, `git format-patch`, or mail as an archive saves it."""

from __future__ import annotations

import email
import email.policy
import gzip
import re
import zlib
from email.message import EmailMessage

from harness.errors import UserError

#: The line before each mail of an mbox: an address or commit, then a date that ends in the year.
_MBOX_FROM = re.compile(rb"^From \S+.*\d\d:\d\d:\d\d.*\d{4}[^\n]*\n", re.M)
_HEADER = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+\r?\n")
_SERIES = re.compile(r"\[[^\]]*?\b(\d+)/(\d+)\s*\]")


def diff_texts(data: bytes, name: str) -> list[tuple[str, str]]:
    """The (title, diff) pairs in a file's content; the title is a mail's subject, or empty.

    A mail without a diff (a cover letter, a reply that quotes one) is passed over if another one has a diff.
    Mails numbered [n/m] come in that order. UserError if there is no diff at all.
    """
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name} is a damaged gzip file: {error}") from error
    found: list[tuple[int, str, str]] = []
    quoted = False
    for content in mails(data):
        title, texts = _mail(content) if _is_mail(content) else ("", [_decode(content, "utf-8")])
        for text in texts:
            diff = _diff(text)
            quoted = quoted or re.search(r"^>[> ]*(?:diff --git |@@ -\d|\+\+\+ )", text, re.M) is not None
            if diff:
                number = _SERIES.search(title)
                found.append((int(number[1]) if number else 0, _plain_title(title), diff))
    if found:
        return [(title, diff) for _, title, diff in sorted(found, key=lambda item: item[0])]
    if quoted:
        raise UserError(
            f"{name} only quotes a diff (its lines begin with '>')",
            hint="save the mail that the diff was sent in",
        )
    raise UserError(
        f"there is no diff in {name}", hint="a diff, a git format-patch file, or a mail with one is wanted"
    )


def mails(data: bytes) -> list[bytes]:
    """The mails of an mbox, without the lines before them; other content as it is."""
    starts = [match for match in _MBOX_FROM.finditer(data)]
    if not starts or starts[0].start() != 0:
        return [data]
    ends = [match.start() for match in starts[1:]] + [len(data)]
    return [data[match.end() : end] for match, end in zip(starts, ends, strict=True)]


def _is_mail(content: bytes) -> bool:
    head = _HEADER.match(content.replace(b"\r\n", b"\n")[:65536])
    return (
        head is not None and re.search(rb"^(?:From|Subject|Date|Message-I[dD]):", head[0], re.M) is not None
    )


def _mail(content: bytes) -> tuple[str, list[str]]:
    """Subject, and the texts of the parts that may hold a diff."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    texts = []
    for part in message.walk():
        kind = part.get_content_maintype()
        if kind not in ("text", "application") or part.get_content_subtype() == "html":
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            texts.append(_decode(payload, part.get_content_charset("utf-8")))
    return str(message.get("Subject", "")), texts


def _decode(data: bytes, charset: str) -> str:
    try:
        text = data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        text = data.decode("utf-8", errors="surrogateescape")
    # Mail ends its lines with CRLF; a diff of a file that does so itself has LF only at its own header lines.
    return (
        text.replace("\r\n", "\n")
        if "\r\n" in text and not re.search(r"^\+\+\+ [^\r\n]*\n", text, re.M)
        else text
    )


def _diff(text: str) -> str:
    """The text from the first line of a diff on, without a mail's signature; empty if there is none."""
    match = re.search(r"^(?:diff --git \S+ \S+|--- \S[^\n]*\n\+\+\+ \S)", text, re.M)
    if match is None:
        return ""
    diff = text[match.start() :]
    diff = re.sub(r"^-- \n[^\n]*\n*\Z", "", diff, flags=re.M)
    return diff if diff.endswith("\n") else diff + "\n"


def _plain_title(subject: str) -> str:
    """A subject without line breaks and without [PATCH ...] in front."""
    return re.sub(r"^(?:\[[^\]]*\]\s*)+", "", " ".join(subject.split()))
