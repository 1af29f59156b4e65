# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import base64
import gzip
import quopri
import re
import tempfile
from pathlib import Path

import pytest

from harness.errors import InfraError, UserError
from harness.kernel.apply import apply_patches
from harness.kernel.patches import Catalogue, Patch, in_range, read_patches
from harness.kernel.spec import KernelTree
from tests.unit.kernelroom import MEMORY_C, toy_tree

DIFF = """\
diff --git a/mm/memory.c b/mm/memory.c
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -13,5 +13,6 @@ int fault(void)
 {
 \tif (trylock())
 \t\treturn 1;
+\t/* Größe = 1 */
 \treturn 0;
 }
"""

SECOND = """\
--- a/mm/hmm.c
+++ b/mm/hmm.c
@@ -3,5 +3,5 @@
 void start(void)
 {
-\twhile (!fault())
+\twhile (fault() == 0)
 \t\t;
 }
"""

HEADERS = "From: A Developer <dev@example.org>\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n"


@pytest.fixture
def tree(tmp_path: Path) -> KernelTree:
    return toy_tree(tmp_path / "tree")


def put(tmp_path: Path, content: str | bytes, name: str = "given.patch") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def only(path: Path) -> Patch:
    (patch,) = read_patches(path)
    return patch


def changed(tree: KernelTree, path: Path) -> str:
    content = apply_patches(tree, read_patches(path)).files["mm/memory.c"]
    assert content is not None
    return content.decode()


EXPECTED = MEMORY_C.replace("\treturn 0;\n}\n", "\treturn 0;\n}\n").replace(
    "\t\treturn 1;\n\treturn 0;", "\t\treturn 1;\n\t/* Größe = 1 */\n\treturn 0;"
)


def mail(body: bytes, encoding: str, subject: str = "[PATCH v2 1/1] mm: say the size") -> bytes:
    return (
        f"{HEADERS}Subject: {subject}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: {encoding}\n\n"
    ).encode() + body


def test_plain_diff(tree: KernelTree, tmp_path: Path) -> None:
    assert changed(tree, put(tmp_path, DIFF)) == EXPECTED
    assert only(tmp_path / "given.patch").title == "given.patch"


def test_diff_without_prefixes_and_with_another_root(tree: KernelTree, tmp_path: Path) -> None:
    bare = DIFF.replace("a/mm", "mm").replace("b/mm", "mm").split("\n", 1)[1]
    assert changed(tree, put(tmp_path, bare)) == EXPECTED
    rooted = DIFF.replace("a/mm", "linux-7.3.orig/mm").replace("b/mm", "linux-7.3/mm").split("\n", 1)[1]
    assert changed(tree, put(tmp_path, rooted)) == EXPECTED


def test_format_patch_file(tree: KernelTree, tmp_path: Path) -> None:
    text = (
        f"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n{HEADERS}"
        "Subject: [PATCH] mm: say\n the size\n\nFrom here on it is said.\n---\n mm/memory.c | 1 +\n\n"
        f"{DIFF}-- \n2.39.5\n\n"
    )
    path = put(tmp_path, text)
    assert changed(tree, path) == EXPECTED
    assert only(path).title == "mm: say the size"
    assert "2.39.5" not in only(path).text


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_mail_as_an_archive_saves_it(tree: KernelTree, tmp_path: Path, encoding: str, crlf: bool) -> None:
    body = f"Please try.\n\n---\n{DIFF}".encode()
    if encoding == "quoted-printable":
        body = quopri.encodestring(body)
        assert b"=3D" in body
    elif encoding == "base64":
        body = base64.encodebytes(body.replace(b"\n", b"\r\n"))
    content = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n" + mail(body, encoding)
    if crlf:
        content = content.replace(b"\n", b"\r\n")
    path = put(tmp_path, content)
    assert changed(tree, path) == EXPECTED
    assert only(path).title == "mm: say the size"


@pytest.mark.parametrize("disposition", ["inline", 'attachment; filename="fix.patch"'])
def test_multipart_mail(tree: KernelTree, tmp_path: Path, disposition: str) -> None:
    kind = "text/x-patch" if "inline" in disposition else "application/octet-stream"
    content = (
        f"{HEADERS}Subject: Re: [PATCH] mm: say the size\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="XX"\n\n--XX\nContent-Type: text/plain\n\n'
        "> diff --git a/x b/x\nSee below.\n"
        f"--XX\nContent-Type: {kind}\nContent-Disposition: {disposition}\n"
        f"Content-Transfer-Encoding: base64\n\n{base64.encodebytes(DIFF.encode()).decode()}--XX--\n"
    )
    assert changed(tree, put(tmp_path, content)) == EXPECTED


def test_several_mails_in_order(tree: KernelTree, tmp_path: Path) -> None:
    separator = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
    reply = "\n".join(f"> {line}" for line in DIFF.splitlines())
    mails = [
        mail(b"The cover letter.\n", "8bit", "[PATCH 0/2] mm: both"),
        mail(SECOND.encode(), "8bit", "[PATCH 2/2] mm: second"),
        mail(DIFF.encode(), "8bit", "[PATCH 1/2] mm: first"),
        mail(reply.encode(), "8bit", "Re: [PATCH 1/2] mm: first"),
    ]
    path = put(tmp_path, gzip.compress(b"".join(separator + m + b"\n" for m in mails)), "t.mbox.gz")
    patches = read_patches(path)
    assert [patch.title for patch in patches] == ["mm: first", "mm: second"]
    assert set(apply_patches(tree, patches).files) == {"mm/memory.c", "mm/hmm.c"}


def test_quoted_diff_is_refused(tmp_path: Path) -> None:
    reply = "\n".join(f"> {line}" for line in DIFF.splitlines())
    with pytest.raises(UserError, match="only quotes a diff"):
        read_patches(put(tmp_path, mail(reply.encode(), "8bit")))


def test_no_diff_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no diff in"):
        read_patches(put(tmp_path, "nothing here\n"))
    with pytest.raises(UserError, match="cannot read"):
        read_patches(tmp_path / "absent.patch")


def test_wrapped_diff_is_refused(tree: KernelTree, tmp_path: Path) -> None:
    wrapped = DIFF.replace("int fault(void)\n", "int fault(void)\n", 1).replace(" \t\treturn 1;", "return 1;")
    with pytest.raises(UserError, match="is damaged"):
        apply_patches(tree, read_patches(put(tmp_path, wrapped)))


def test_already_there(tree: KernelTree, tmp_path: Path) -> None:
    (tree.path / "mm/memory.c").write_text(EXPECTED, encoding="utf-8")
    stack = apply_patches(tree, read_patches(put(tmp_path, DIFF)))
    assert [applied.status for applied in stack.patches] == ["already there"]
    assert stack.files == {}


def test_same_patch_twice_is_there_the_second_time(tree: KernelTree, tmp_path: Path) -> None:
    patch = only(put(tmp_path, DIFF))
    stack = apply_patches(tree, [patch, patch])
    assert [applied.status for applied in stack.patches] == ["applied", "already there"]


def test_tree_is_not_touched(tree: KernelTree, tmp_path: Path) -> None:
    before = (tree.path / "mm/memory.c").stat()
    apply_patches(tree, read_patches(put(tmp_path, DIFF)))
    after = (tree.path / "mm/memory.c").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tree.path / "mm/memory.c").read_text(encoding="utf-8") == MEMORY_C


def test_conflict_names_hunk_file_and_what_is_there(tree: KernelTree, tmp_path: Path) -> None:
    text = MEMORY_C.replace("if (trylock())", "if (trylock_page())")
    (tree.path / "mm/memory.c").write_text(text, encoding="utf-8")
    two = DIFF.replace(
        "@@ -13,5",
        "@@ -1,2 +1,3 @@\n /* The toy's memory management. */\n+int added;\n int locked;\n@@ -13,5",
    )
    with pytest.raises(UserError) as caught:
        apply_patches(tree, read_patches(put(tmp_path, two)))
    message = caught.value.message
    assert "given.patch does not apply to the toy: hunk 2 of 2 in mm/memory.c:13" in message
    expects, has = message.split("the tree has, at line 13:")
    assert "|\tif (trylock())" in expects
    assert "|\tif (trylock_page())" in has


def test_hunk_without_lines_around_it_is_explained(tree: KernelTree, tmp_path: Path) -> None:
    text = "--- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -13,2 +13,3 @@\n {\n \tif (trylock())\n+\t\treturn 2;\n"
    with pytest.raises(UserError) as caught:
        apply_patches(tree, read_patches(put(tmp_path, text)))
    assert "unchanged lines before and after" in caught.value.hint


def test_missing_file_is_named(tree: KernelTree, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mm/gone\.c"):
        apply_patches(tree, read_patches(put(tmp_path, DIFF.replace("memory.c", "gone.c"))))


@pytest.mark.parametrize("outside", ["../outside.c", "mm/../../outside.c", "/etc/outside.c", ".git/config"])
def test_path_outside_the_tree_is_refused(tree: KernelTree, tmp_path: Path, outside: str) -> None:
    text = f"--- /dev/null\n+++ {'b/' if not outside.startswith('/') else ''}{outside}\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(UserError, match="not in the tree"):
        apply_patches(tree, read_patches(put(tmp_path, text)))


def test_new_and_deleted_files(tree: KernelTree, tmp_path: Path) -> None:
    text = (
        "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n"
        "--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+int x;\n"
        "diff --git a/mm/hmm.c b/mm/hmm.c\ndeleted file mode 100644\n"
        "--- a/mm/hmm.c\n+++ /dev/null\n@@ -1,7 +0,0 @@\n"
        "-int fault(void);\n-\n-void start(void)\n-{\n-\twhile (!fault())\n-\t\t;\n-}\n"
    )
    assert apply_patches(tree, read_patches(put(tmp_path, text))).files == {
        "mm/new.c": b"int x;\n",
        "mm/hmm.c": None,
    }


def test_renamed_file(tree: KernelTree, tmp_path: Path) -> None:
    text = (
        "diff --git a/mm/hmm.c b/mm/mirror.c\nsimilarity index 100%\n"
        "rename from mm/hmm.c\nrename to mm/mirror.c\n"
    )
    before = (tree.path / "mm/hmm.c").read_bytes()
    assert apply_patches(tree, read_patches(put(tmp_path, text))).files == {
        "mm/mirror.c": before,
        "mm/hmm.c": None,
    }


def test_binary_change_is_refused(tree: KernelTree, tmp_path: Path) -> None:
    text = (
        DIFF
        + "diff --git a/logo b/logo\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\n"
    )
    with pytest.raises(UserError, match="binary"):
        apply_patches(tree, read_patches(put(tmp_path, text)))


def test_a_scratch_folder_that_cannot_be_written_is_a_fault_of_the_machine(
    tree: KernelTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(InfraError, match=f"cannot write {tmp_path}/file: Not a directory"):
        apply_patches(tree, ())


def test_a_git_repository_around_the_scratch_folder_changes_nothing(
    tree: KernelTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo/.git").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "repo"))
    assert changed(tree, put(tmp_path, DIFF)) == EXPECTED


# The catalogue


def test_shipped_catalogue_reads_and_every_file_is_a_diff() -> None:
    catalogue = Catalogue.load()
    assert catalogue.resolve("x86-preempt-choice", "7.3.4").role == "enabler"
    assert "forbids" in catalogue.resolve("x86-preempt-choice", "7.3.4").note
    assert catalogue.resolve("trylock-starvation/without-wait", "7.0").role == "introduces"
    for entry in catalogue.entries:
        for file in entry.files:
            version = re.search(r"\d+\.\d+", file.versions)
            assert version is not None
            patch = catalogue.resolve(entry.id, version[0])
            assert patch.path == catalogue.folder / file.file
            assert patch.text.startswith("diff --git ")


def test_every_candidate_fix_says_whose_idea_it_is_and_what_is_against_it() -> None:
    fixes = [entry for entry in Catalogue.load().entries if entry.role == "fix"]
    assert [entry.id for entry in fixes if not (entry.bug and entry.idea and entry.against)] == []


def test_every_shipped_patch_is_in_the_catalogue() -> None:
    catalogue = Catalogue.load()
    shipped = {str(path.relative_to(catalogue.folder)) for path in catalogue.folder.glob("*/*.patch")}
    assert shipped == {file.file for entry in catalogue.entries for file in entry.files}


def test_wait_on_locked_differs_between_versions() -> None:
    catalogue = Catalogue.load()
    old = catalogue.resolve("trylock-starvation/wait-on-locked", "6.12.117")
    new = catalogue.resolve("trylock-starvation/wait-on-locked", "7.3.4")
    assert "migration_entry_wait_on_locked(entry" in old.text
    assert "softleaf_entry_wait_on_locked(entry" in new.text


def test_unknown_patch_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        Catalogue.load().resolve("trylock-starvation/wait-on-lock", "7.3.4")
    assert "did you mean 'trylock-starvation/wait-on-locked'?" in caught.value.hint


def test_version_without_a_file() -> None:
    with pytest.raises(UserError, match=r"no file for kernel 6\.18\.2"):
        Catalogue.load().resolve("x86-preempt-choice", "6.18.2")


def test_ranges() -> None:
    assert in_range("6.12.117", ">=6.12,<6.13")
    assert not in_range("6.13.0", ">=6.12,<6.13")
    assert in_range("7.0.0-rc3", ">=7.0")
    assert not in_range("7.3.4", "==7.3.3")


def test_mistakes_in_a_catalogue_come_all_at_once_with_their_lines(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "patches:\n  - id: one\n    bug: b\n    role: fixes\n    titel: t\n    upstream: u\n    files:\n"
        "      - versions: six\n        file: x.patch\n",
        "catalogue.yaml",
    )
    with pytest.raises(UserError) as caught:
        Catalogue.load(path)
    lines = caught.value.message.splitlines()
    assert [line.split(": ")[0].removeprefix(str(path)) for line in lines] == [":2", ":4", ":5", ":8"]
    assert "did you mean 'title'?" in lines[2]
