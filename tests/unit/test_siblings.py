# SPDX-License-Identifier: GPL-2.0-only
"""The search for the bug's shape, on C that was written for it; spatch is the real one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli import main
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.apply import PatchStack
from harness.kernel.spec import KernelTree
from harness.siblings import spatch
from harness.siblings.known import KnownHits
from harness.siblings.search import Search, search
from harness.siblings.source import attempts, function_at
from harness.siblings.spatch import RULE, removed_lines
from tests.unit.kernelroom import Notes

FOUND = """
vm_fault_t else_branch(struct vm_fault *vmf)
{
	vm_fault_t ret = 0;

	if (folio_trylock(folio)) {
		spin_unlock(ptl);
		ret = migrate(vmf);
		folio_unlock(folio);
	} else {
		spin_unlock(ptl);
	}
	return ret;
}

vm_fault_t jumps(struct vm_fault *vmf)
{
	vm_fault_t ret = VM_FAULT_MAJOR;

	if (!trylock_page(vmf->page)) {
		ret = 0;
		goto out;
	}
	unlock_page(vmf->page);
out:
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return ret;
}

static int only_takes_a_fault(int write, struct vm_fault *vmf)
{
	if (write && unlikely(!folio_trylock(folio))) {
		spin_unlock(vmf->ptl);
		return VM_FAULT_NOPAGE;
	}
	folio_unlock(folio);
	spin_unlock(vmf->ptl);
	return 0;
}

static vm_fault_t only_returns_a_fault(
	struct mm_struct *mm, unsigned long address)
{
	bool locked = folio_trylock(folio);

	if (!locked) {
		spin_unlock(ptl);
		return 0;
	}
	folio_unlock(folio);
	spin_unlock(ptl);
	return 0;
}

vm_fault_t yields(struct vm_fault *vmf)
{
	if (!folio_trylock(folio)) {
		spin_unlock(ptl);
		cond_resched();
		return 0;
	}
	folio_unlock(folio);
	spin_unlock(ptl);
	return 0;
}
"""
CLEAN = """
vm_fault_t returns_retry(struct vm_fault *vmf)
{
	vm_fault_t ret = 0;

	if (!folio_trylock(folio)) {
		ret = VM_FAULT_RETRY;
		goto out;
	}
	folio_unlock(folio);
out:
	spin_unlock(ptl);
	return ret;
}

vm_fault_t adds_retry(struct vm_fault *vmf)
{
	vm_fault_t ret = 0;

	if (!folio_trylock(folio)) {
		spin_unlock(ptl);
		ret |= VM_FAULT_RETRY;
		return ret;
	}
	folio_unlock(folio);
	spin_unlock(ptl);
	return 0;
}

vm_fault_t waits_for_the_entry(struct vm_fault *vmf)
{
	if (trylock_page(vmf->page)) {
		pte_unmap_unlock(vmf->pte, vmf->ptl);
		unlock_page(vmf->page);
	} else {
		pte_unmap(vmf->pte);
		softleaf_entry_wait_on_locked(entry, vmf->ptl);
	}
	return 0;
}

vm_fault_t sleeps_for_the_lock(struct vm_fault *vmf)
{
	if (!folio_trylock(folio)) {
		spin_unlock(ptl);
		folio_lock(folio);
		spin_lock(ptl);
	}
	folio_unlock(folio);
	spin_unlock(ptl);
	return 0;
}

int no_fault(struct mm_walk *walk)
{
	if (!folio_trylock(folio)) {
		spin_unlock(ptl);
		return 0;
	}
	folio_unlock(folio);
	spin_unlock(ptl);
	return 0;
}
"""
BROKEN = """
vm_fault_t not_c(struct vm_fault *vmf)
{
	with_a_block(&lock) { @@@
	if (!folio_trylock(folio)) {
		spin_unlock(vmf->ptl);
		return 0;
	}
	return 0;
}
"""
KNOWN = """
hits:
  - file: mm/found.c
    function: jumps
    tries: "if (!trylock_page(vmf->page)) {"
    verdict: harmless
    why: the test says so
    as_long_as: "goto out;"
"""


def tree(folder: Path, files: Mapping[str, str]) -> KernelTree:
    files = {"Makefile": "VERSION = 7\nPATCHLEVEL = 3\n", "Kconfig": "\n", **files}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return KernelTree(folder, "7.3.0", "toy", "a toy", str(folder))


def searched(
    kernel: KernelTree, *paths: str, files: Mapping[str, bytes | None] | None = None, known: str = "hits: []"
) -> Search:
    table = kernel.path / "known.yaml"
    table.write_text(known)
    stack = PatchStack(files or {}, ())
    return search(kernel, stack, paths, Notes(), Deadline.after(60), KnownHits.load(table))


def test_every_form_of_the_shape_is_found_and_nothing_else(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"mm/found.c": FOUND, "mm/clean.c": CLEAN, "mm/other.c": "int x;\n"})
    found = searched(kernel)
    assert [(hit.file, hit.function, hit.verdict) for hit in found.hits] == [
        ("mm/found.c", name, "unknown")
        for name in ("else_branch", "jumps", "only_takes_a_fault", "only_returns_a_fault", "yields")
    ]
    assert [line.text for line in found.hits[1].lines] == [
        "if (!trylock_page(vmf->page)) {",
        "pte_unmap_unlock(vmf->pte, vmf->ptl);",
        "return ret;",
    ]
    assert (found.files, found.tried, found.unread, found.clean) == (2, 10, (), False)


def test_what_cannot_be_parsed_is_said(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"mm/broken.c": BROKEN, "mm/clean.c": CLEAN})
    found = searched(kernel)
    assert found.hits == ()
    assert [(file.file, [line.text for line in file.lines]) for file in found.unread] == [
        ("mm/broken.c", ["if (!folio_trylock(folio)) {"])
    ]
    assert not found.clean


def test_a_known_place_stands_as_long_as_its_reason_does(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"mm/found.c": FOUND})
    verdicts = {hit.function: hit.verdict for hit in searched(kernel, known=KNOWN).hits}
    assert verdicts.pop("jumps") == "harmless" and set(verdicts.values()) == {"unknown"}
    gone = KNOWN.replace("goto out;", "folio_wait_locked")
    assert {hit.verdict for hit in searched(kernel, known=gone).hits} == {"unknown"}


def test_patched_files_stand_for_those_of_the_tree(tmp_path: Path) -> None:
    kernel = tree(tmp_path, {"mm/found.c": FOUND, "mm/gone.c": FOUND, "fs/far.c": FOUND})
    files = {"mm/found.c": CLEAN.encode(), "mm/gone.c": None, "mm/new.c": FOUND.encode()}
    found = searched(kernel, "mm", files=files)
    assert {hit.file for hit in found.hits} == {"mm/new.c"} and found.files == 2
    assert "vm_fault_t jumps" in (tmp_path / "mm/found.c").read_text()


@pytest.mark.parametrize("path", ["nowhere", "../mm", "/etc", "Kconfig"])
def test_a_path_with_nothing_to_search_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"has no|tries a folio's lock"):
        searched(tree(tmp_path, {"mm/found.c": FOUND}), path)


def test_a_spatch_that_finds_nothing_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blunt = tmp_path / "blunt.cocci"
    blunt.write_text(RULE.read_text().replace("folio_trylock@p", "folio_try_another@p"))
    monkeypatch.setattr(spatch, "RULE", blunt)
    with pytest.raises(InfraError, match="spatch marks lines"):
        searched(tree(tmp_path, {"mm/clean.c": CLEAN}))


def test_a_rule_that_is_none_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.cocci").write_text("@@\n")
    monkeypatch.setattr(spatch, "RULE", tmp_path / "none.cocci")
    with pytest.raises(InfraError, match="spatch failed"):
        searched(tree(tmp_path, {"mm/clean.c": CLEAN}))


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {"mm/found.c": FOUND, "mm/clean.c": CLEAN})
    words = ["siblings", f"folder:{tmp_path}", "--cache", str(tmp_path / "cache")]
    assert main([*words, "--path", "mm/clean.c"]) == 0
    assert "0 bug, 0 unknown, 0 harmless" in capsys.readouterr().out
    assert main([*words, "--path", "mm/found.c", "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert [hit["function"] for hit in value["hits"]][:2] == ["else_branch", "jumps"]
    assert (value["hits"][0]["line"], value["hits"][0]["verdict"], value["clean"]) == (6, "unknown", False)
    assert main([*words, "--path", "nowhere"]) == 2
    assert main(["siblings", "nonsense"]) == 2


def test_no_spatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["siblings", f"folder:{tmp_path}"]) == 3
    assert "apt-get install coccinelle" in capsys.readouterr().err


def test_attempts_are_counted_in_code_only() -> None:
    text = """/* folio_trylock(a) or
 * folio_trylock(b) */
static inline bool folio_trylock(struct folio *folio)
// folio_trylock(c)
	say("folio_trylock(d) \\" trylock_page(e)"); x = 1;
	if (a && !trylock_page (page))
	zspage_folio_trylock(folio); folio_trylock_flag(folio);
"""
    assert attempts(text) == [6]


def test_the_function_around_a_line() -> None:
    lines = CLEAN.split("\n")
    number = next(place for place, line in enumerate(lines, start=1) if line == "out:")
    assert function_at(lines, number + 1)[0] == "returns_retry"
    assert function_at(["int x;", "\treturn 0;"], 2) == ("", 0)


def test_lines_that_a_diff_takes_out() -> None:
    first = "(ONCE) a remark\n--- a/x\n+++ b/x\n@@ -3,3 +3,1 @@ f(\n-\tone\n two\n---x;\n"
    diff = first + "@@ -20 +18,0 @@\n-three\n-no\n"
    assert removed_lines(diff) == [3, 5, 20]
