# SPDX-License-Identifier: GPL-2.0-only
"""The mail that a reply answers, and who gets the reply."""

from __future__ import annotations

import contextlib
import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path

from harness.errors import UserError
from harness.kernel.mail import diff_texts, mails
from harness.plain import plain

#: The number of a cover letter, as in [PATCH v2 0/3].
_COVER = re.compile(r"\[[^\]]*\b0+/\d+\s*\]")
_ID = re.compile(r"<[^<>\s]+>")
#: What the parser of headers trips over in them.
_JUNK = (ValueError, LookupError, AttributeError, TypeError)


@dataclass(frozen=True)
class Answered:
    """One mail of a thread, as a reply needs it."""

    message_id: str
    #: The mails it answers itself, the oldest first.
    references: tuple[str, ...]
    subject: str
    #: Who wrote it, and everybody else who got it.
    to: tuple[Address, ...]
    cc: tuple[Address, ...]


def read_thread(path: Path) -> Answered:
    """The mail in a file that a reply to its patches belongs to.

    The cover letter; without one the first mail with a patch; without one the first. UserError if the file
    cannot be read or holds no mail.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", hint="--mbox takes the mail as it was saved"
        ) from error
    found = [message for message in map(_parsed, mails(data)) if message]
    if not found:
        raise UserError(
            f"there is no mail with a Message-ID in {path}",
            hint="save it from the archive as mbox, or from the mail program",
        )
    covers = [message for message in found if _COVER.search(_header(message, "Subject"))]
    patches = [message for message in found if _has_diff(message)]
    return _answered([*covers, *patches, *found][0], path)


def _parsed(content: bytes) -> EmailMessage | None:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message if _ID.search(_header(message, "Message-ID")) else None


def _header(message: EmailMessage, name: str) -> str:
    """A header on one line; empty if it is not there, or beyond reading."""
    try:
        return plain(" ".join(str(message.get(name, "")).split()))
    except _JUNK:
        return ""


def _has_diff(message: EmailMessage) -> bool:
    with contextlib.suppress(UserError):
        return bool(diff_texts(message.as_bytes(), "the mail"))
    return False


def _answered(message: EmailMessage, path: Path) -> Answered:
    writer = list(_addresses(message, "Reply-To")) or list(_addresses(message, "From"))
    if not writer:
        raise UserError(f"the mail in {path} does not say who wrote it")
    others = [*_addresses(message, "From"), *_addresses(message, "To"), *_addresses(message, "Cc")]
    before = _header(message, "References") or _header(message, "In-Reply-To")
    return Answered(
        message_id=_ID.findall(_header(message, "Message-ID"))[0],
        references=tuple(_ID.findall(before)),
        subject=_header(message, "Subject"),
        to=_without(writer, []),
        cc=_without(others, writer),
    )


def _addresses(message: EmailMessage, name: str) -> Iterator[Address]:
    """Those of a header that are any; what is encoded in it is decoded only when it is taken apart."""
    raw = [
        str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for key, value in message.raw_items()
        if key.lower() == name.lower()
    ]
    for shown, spec in getaddresses([" ".join(value.split()) for value in raw]):
        with contextlib.suppress(ValueError, LookupError, HeaderParseError):
            yield address(plain(str(make_header(decode_header(shown)))), spec)


def address(name: str, spec: str) -> Address:
    """An address with a display name. ValueError if `spec` is none."""
    if not re.fullmatch(r"[^\s<>@,;]+@[^\s<>@,;]+", spec):
        raise ValueError(f"{spec!r} is no mail address")
    return Address(display_name=name, addr_spec=spec)


def _without(some: list[Address], others: list[Address]) -> tuple[Address, ...]:
    """Each once, in order, but for the others."""
    seen = {one.addr_spec.lower() for one in others}
    kept: dict[str, Address] = {}
    for one in some:
        if one.addr_spec.lower() not in seen:
            kept.setdefault(one.addr_spec.lower(), one)
    return tuple(kept.values())
