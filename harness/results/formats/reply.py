# SPDX-License-Identifier: GPL-2.0-only
"""A mail that answers a patch with what its trials came to, ready for `git send-email` or `sendmail -t`.

It says `Tested-by` only of a verdict `fixed`, and only if the candidate had the diff of the mail that is
answered: whoever reads that line takes it for a word about that patch.
"""

from __future__ import annotations

import email.policy
import textwrap
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, localtime, make_msgid
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.experiment.statistics import VerdictKind
from harness.kernel.patches import read_patches
from harness.layout import aligned
from harness.plain import plain
from harness.process import run as run_process
from harness.results.formats.options import Options
from harness.results.formats.thread import address, read_thread
from harness.results.reading import RunRecord
from harness.results.runfolder import TrialResult
from harness.results.summary import COLUMNS, Arm, Summary, summarize
from harness.results.text import splat_lines

#: Columns of a mail's text.
WIDTH = 72
#: Columns of COLUMNS that the table has: the kernels and outcomes are told below it.
_SHOWN = (0, 2, 3, 4, 5, 6)
_POLICY = email.policy.SMTP.clone(linesep="\n", max_line_length=78)


def reply(run: RunRecord, options: Options) -> str:
    """The mail. UserError if nothing says which mail it answers, or who writes it."""
    summary = summarize(run)
    place = options.mbox or _own_mail(run)
    if place is None:
        raise UserError("nothing says which mail to answer", hint="--mbox FILE: the patch, as it was mailed")
    answered, sender = read_thread(place), _sender(options.sender)
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = answered.to
    copies = [one for one in answered.cc if one.addr_spec.lower() != sender.addr_spec.lower()]
    if copies:
        message["Cc"] = copies
    known = answered.subject[:3].lower() == "re:"
    message["Subject"] = answered.subject if known else f"Re: {answered.subject}"
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=sender.domain)
    message["In-Reply-To"] = answered.message_id
    message["References"] = " ".join([*answered.references, answered.message_id])
    body = _body(summary, sender, tested=_tested(summary, place))
    # A list's archive greps through it: no base64.
    message.set_content(body, charset="utf-8", cte="7bit" if body.isascii() else "quoted-printable")
    return message.as_string()


def _own_mail(run: RunRecord) -> Path | None:
    """The mail that one of the run's patches came in, if it was tried as a mail."""
    for path in sorted((run.folder / "patches").glob("*")):
        try:
            read_thread(path)
        except UserError:
            continue
        return path
    return None


def _sender(given: str) -> Address:
    """`Name <address>`, or what git is configured with."""
    try:
        if given:
            ((name, spec),) = getaddresses([given])
        else:
            name, spec = _git("user.name"), _git("user.email")
        return address(name, spec)
    except ValueError as error:
        raise UserError(
            f"who writes the mail? {error}",
            hint="--from 'NAME <ADDRESS>', or git config user.name and user.email",
        ) from error


def _git(key: str) -> str:
    try:
        done = run_process(["git", "config", "--get", key], deadline=Deadline.after(10), check=False)
    except InfraError:
        return ""
    return done.output.strip() if done.ok else ""


def _tested(summary: Summary, place: Path) -> bool:
    """Whether the candidate had every diff of the mail that is answered."""
    try:
        wanted = {patch.sha256 for patch in read_patches(place)}
    except UserError:  # a cover letter alone, or a mail that only quotes
        return False
    had = {patch.sha256 for arm in summary.arms if arm.role == "candidate" for patch in arm.patches}
    return wanted <= had


def _body(summary: Summary, sender: Address, *, tested: bool) -> str:
    told = [_verdict(summary), "\n".join(_table(summary)), "\n".join(_configuration(summary))]
    if summary.shown:
        told.append("\n".join(_evidence(summary, summary.shown)))
    told.append("To repeat it:\n\n" + "\n".join(_command(summary.run.reproduce)))
    if summary.headline == VerdictKind.FIXED and tested:
        told.append(f"Tested-by: {sender}")
    elif summary.headline == VerdictKind.FIXED:
        told.append(_filled("The candidate that was tested does not carry the diff of this mail."))
    return "\n\n".join(told) + "\n"


def _verdict(summary: Summary) -> str:
    return f"verdict: {plain(summary.headline)}\n{_filled(summary.reason, '  ')}"


def _table(summary: Summary) -> list[str]:
    if not summary.arms:
        return ["(no trial has ended)"]
    rows = [[row[column] for column in _SHOWN] for row in (COLUMNS, *(arm.row for arm in summary.arms))]
    lines = [f"  {line}" for line in aligned(rows)]
    if summary.compared and summary.compared.p_value is not None:
        lines.append(f"  Fisher's exact p (two-sided): {summary.compared.p_value:.2g}")
    if summary.compared and summary.compared.sequential:
        found = summary.compared.sequential
        text = f"ended when it was sure: e-value {found.e_value:.3g} at an error of {found.error:g}"
        lines.append(f"  {text}")
    return lines


def _configuration(summary: Summary) -> list[str]:
    facts = [("tree", summary.tree), ("scenario", f"{summary.scenario} {summary.settings}".strip())]
    guests = dict.fromkeys(arm.guest_in_full for arm in summary.arms if arm.guest)
    facts += [("guest", guest) for guest in guests]
    for arm in summary.arms:
        facts += [(arm.name, text) for text in _arm(arm)]
    width = max(len(name) for name, _ in facts)
    return [_filled(text, f"  {name:{width}}  ", " " * (width + 4)) for name, text in facts]


def _arm(arm: Arm) -> list[str]:
    patches = [f"{patch.role}: {patch.name}, {patch.status}" for patch in arm.patches]
    config = (
        [f"config sha256 {arm.kernel.config_sha[:12]}, build {arm.kernel.build[:12]}"] if arm.kernel else []
    )
    return [f"{arm.outcomes or 'no trial has ended'}, {arm.tally.windows} windows", *patches, *config]


def _evidence(summary: Summary, shown: TrialResult) -> list[str]:
    lines = [f"{shown.arm}, trial {shown.index}: {shown.kind}{' (the bug)' if shown.is_bug else ''}", ""]
    for line in shown.cycle:
        lines.append(_filled(line.strip(), "  " if line[:1] != " " else "    ", "      "))
    if shown.signature:
        lines.append(_filled(f"signature: {shown.signature}", "  ", "      "))
    # A console's lines are not filled: their columns mean something.
    return lines + [plain(line.removeprefix("  "))[:WIDTH] for line in splat_lines(shown.splat)]


def _command(command: str) -> list[str]:
    """A command line, broken where a shell lets it be."""
    words = plain(command).split(" ")
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{'    ' if lines else '  '}{word}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _filled(text: str, first: str = "", rest: str | None = None) -> str:
    wrapped = textwrap.wrap(
        plain(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
    )
    return "\n".join(wrapped)
