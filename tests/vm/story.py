# SPDX-License-Identifier: GPL-2.0-only
"""What happens in the made history: small changes to the kernel; three are bad, two of these are mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What a change does beside what it says. `bug` without edits: it is the catalogue's.
Role = Literal["", "bug", "unbuildable", "mends unbuildable", "failing", "mends failing"]


@dataclass(frozen=True)
class Edit:
    """Every `old` in a file becomes `new`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Change:
    """A commit on a branch."""

    title: str
    edits: tuple[Edit, ...]
    role: Role = ""
    branch: str = "main"


@dataclass(frozen=True)
class Merge:
    """A branch joins the main line."""

    title: str
    branch: str


def _change(title: str, path: str, old: str, new: str, role: Role = "", branch: str = "main") -> Change:
    return Change(title, (Edit(path, old, new),), role, branch)


STORY: tuple[Change | Merge, ...] = (
    _change(
        "lib/bsearch: say by what the array is sorted",
        "lib/bsearch.c",
        "contents of the array should already be in ascending sorted order\n * under the provided",
        "contents of the array must be in ascending order already, as given by\n * the provided",
    ),
    _change(
        "lib/list_sort: say that no list is empty",
        "lib/list_sort.c",
        "\tstruct list_head *tail = head;\n\n\tfor (;;) {",
        "\tstruct list_head *tail = head;\n\n\t/* Neither list is empty. */\n\tfor (;;) {",
        branch="lib",
    ),
    _change(
        "lib/argv_split: say what the two further slots are for",
        "lib/argv_split.c",
        "\targv = kmalloc_array(argc + 2, sizeof(*argv), gfp);",
        "\t/* One slot before the arguments for the copy, one behind them for NULL. */\n"
        "\targv = kmalloc_array(argc + 1 + 1, sizeof(*argv), gfp);",
    ),
    _change(
        "lib/parser: while is no function",
        "lib/parser.c",
        "\twhile(1) {",
        "\twhile (1) {",
        branch="lib",
    ),
    _change(
        "lib/uuid: split out where the dashes go",
        "lib/uuid.c",
        "\t\tif (i == 8 || i == 13 || i == 18 || i == 23) {\n\t\t\tif (uuid[i] != '-')",
        "\t\tbool dash = i == 8 || i == 13 || i == 18 || i == 23;\n\n\t\tif (dash) {\n"
        "\t\t\tif (uuid[i] != '-')",
        branch="lib",
    ),
    Merge("Merge the cleanups of lib", "lib"),
    _change(
        "mm/mincore: no second variable called pages",
        "mm/mincore.c",
        "unsigned long pages = DIV_ROUND_UP(end - addr, PAGE_SIZE);\n\t\tmemset(vec, 1, pages);\n"
        "\t\treturn pages;",
        "unsigned long nr = DIV_ROUND_UP(end - addr, PAGE_SIZE);\n\n\t\tmemset(vec, 1, nr);\n\t\treturn nr;",
    ),
    _change(
        "kernel/range: no increment of what is returned next",
        "kernel/range.c",
        "\tnr_range++;\n\n\treturn nr_range;",
        "\treturn nr_range + 1;",
    ),
    _change(
        "kernel/groups: set gid where it is declared",
        "kernel/groups.c",
        "\t\tgid_t gid;\n\t\tgid = from_kgid_munged(user_ns, group_info->gid[i]);\n",
        "\t\tgid_t gid = from_kgid_munged(user_ns, group_info->gid[i]);\n\n",
    ),
    _change(
        "lib/cmdline: call the end of a range its last value",
        "lib/cmdline.c",
        "\tint x, inc_counter, upper_range;\n\n\t(*str)++;\n\tupper_range = simple_strtol",
        "\tint x, inc_counter, last;\n\n\t(*str)++;\n\tlast = simple_strtol",
        "unbuildable",
    ),
    _change(
        "mm/dmapool: unsigned int for a size in bytes",
        "mm/dmapool.c",
        "\tunsigned size;\n",
        "\tunsigned int size;\n",
    ),
    _change(
        "mm/msync: use PAGE_ALIGN()",
        "mm/msync.c",
        "\tlen = (len + ~PAGE_MASK) & PAGE_MASK;",
        "\tlen = PAGE_ALIGN(len);",
    ),
    _change(
        "lib/kstrtox: say what the four bits are for",
        "lib/kstrtox.c",
        "\t\t * it in the max base we support (16)\n",
        "\t\t * it in the max base we support (16): a digit more\n\t\t * takes four bits\n",
    ),
    _change(
        "mm/maccess: drop a hint that gains nothing",
        "mm/maccess.c",
        "\tif (unlikely(count <= 0))",
        "\tif (count <= 0)",
    ),
    _change(
        "lib/cmdline: upper_range is called last everywhere",
        "lib/cmdline.c",
        "upper_range",
        "last",
        "mends unbuildable",
    ),
    _change(
        "lib/ratelimit: the comment names another function",
        "lib/ratelimit.c",
        " * __ratelimit - rate limiting\n",
        " * ___ratelimit - rate limiting\n",
        branch="mm",
    ),
    _change(
        "kernel/notifier: a chain ends at NULL",
        "kernel/notifier.c",
        "\twhile ((*nl) != NULL) {",
        "\twhile (*nl) {",
    ),
    Change("mm: retry the fault when a device-private page is locked", (), "bug", "mm"),
    _change(
        "mm/migrate_device: count what was collected in a debug message",
        "mm/migrate_device.c",
        "\tmigrate_vma_collect(args);\n\n\tif (args->cpages)\n\t\tmigrate_vma_unmap(args);\n\n"
        "\t/*\n\t * At this point pages are locked",
        "\tmigrate_vma_collect(args);\n"
        '\tpr_debug("collected %lu of %ld pages\\n", args->cpages, nr_pages);\n\n'
        "\tif (args->cpages)\n\t\tmigrate_vma_unmap(args);\n\n"
        "\t/*\n\t * At this point pages are locked",
        branch="mm",
    ),
    Merge("Merge the changes of mm", "mm"),
    _change(
        "mm/hmm: warn of a range that does not begin with a page",
        "mm/hmm.c",
        "\tmmap_assert_locked(mm);\n\n\tdo {",
        "\tmmap_assert_locked(mm);\n\tWARN_ON_ONCE(range->start & PAGE_MASK);\n\n\tdo {",
        "failing",
    ),
    _change(
        "mm/mempool: fault has a t",
        "mm/mempool.c",
        "mempool_faul_inject_init",
        "mempool_fault_inject_init",
    ),
    _change(
        "kernel/async: one empty line is enough",
        "kernel/async.c",
        " */\n\n\n/*\n\nGoals and",
        " */\n\n/*\n\nGoals and",
    ),
    _change(
        "lib/hexdump: an empty line after the declarations",
        "lib/hexdump.c",
        "\tunsigned char cu = ch & 0xdf;\n\treturn -1 +",
        "\tunsigned char cu = ch & 0xdf;\n\n\treturn -1 +",
    ),
    _change(
        "mm/hmm: what must be zero is the offset in the page",
        "mm/hmm.c",
        "\tWARN_ON_ONCE(range->start & PAGE_MASK);",
        "\tWARN_ON_ONCE(offset_in_page(range->start));",
        "mends failing",
    ),
    _change(
        "lib/sort: what lsbit is for",
        "lib/sort.c",
        "/* Used to find parent */",
        "/* for parent() */",
    ),
)

#: The same with a bug that shows in three of ten address spaces: where a process is mapped is drawn anew for
#: every process, so that a trial either has it all along or never.
WEAK_STORY = tuple(
    _change(
        "mm: retry the fault in some address spaces when a device-private page is locked",
        "mm/memory.c",
        "\t\t\t} else {\n\t\t\t\tpte_unmap(vmf->pte);\n\t\t\t\tsoftleaf_entry_wait_on_locked(",
        "\t\t\t} else if ((vmf->vma->vm_mm->mmap_base >> PAGE_SHIFT) % 10 < 3) {\n"
        "\t\t\t\tpte_unmap_unlock(vmf->pte, vmf->ptl);\n"
        "\t\t\t} else {\n\t\t\t\tpte_unmap(vmf->pte);\n\t\t\t\tsoftleaf_entry_wait_on_locked(",
        "bug",
        "mm",
    )
    if isinstance(step, Change) and step.role == "bug"
    else step
    for step in STORY
)
