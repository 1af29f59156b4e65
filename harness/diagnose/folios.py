# SPDX-License-Identifier: GPL-2.0-only
"""Folios that tasks fault on, and who has them locked. The kernel does not store the latter; frames tell."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import drgn
from drgn.helpers.linux.mm import PageLocked, PageLRU, compound_head, compound_nr, page_to_pfn, pfn_to_page

from harness.diagnose.facts import FolioFact, Hold, Mapping, Spin
from harness.diagnose.image import UNREADABLE
from harness.diagnose.pagetables import PageTables
from harness.diagnose.stacks import Stack, local, locals_of
from harness.diagnose.tasks import Source

#: A fault is one of these functions, or below it (mm/hmm.c, mm/memory.c, mm/huge_memory.c).
_FAULT = ("handle_mm_fault", "__handle_mm_fault", "do_swap_page", "do_huge_pmd_device_private")
_RANGE = ("hmm_range_fault_locked", "hmm_range_fault")
_STEPS = ("hmm_do_fault", "hmm_vma_fault", *_RANGE)
#: include/linux/migrate.h.
_PFN_VALID, _PFN_MIGRATE, _PFN_SHIFT = 1, 2, 6
#: Pages of a range that are looked at, and of a migration's array that are read.
_RANGE_LIMIT = 4096
_ARRAY_LIMIT = 1 << 16
#: Those that sleep on a folio lock have a pointer to the folio too.
_WAITERS = frozenset(
    {
        "folio_wait_bit_common",
        "__folio_lock",
        "softleaf_entry_wait_on_locked",
        "migration_entry_wait_on_locked",
    }
)
#: include/linux/memremap.h, enum memory_type.
_MEMORY_DEVICE_PRIVATE = 1
_PAGE = 4096


class Folios:
    """Folios by the page frame number of their first page, each read once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pages: dict[int, drgn.Object] = {}
        self._tables: dict[int, PageTables] = {}

    def head(self, pfn: int) -> int:
        """The first page of the folio that this page is part of."""
        head = compound_head(pfn_to_page(self._source.prog, pfn))
        number = int(page_to_pfn(head))
        self._pages[number] = head
        return number

    def locked(self, pfn: int) -> bool:
        """Whether the folio of this first page is locked."""
        return bool(PageLocked(self._pages[pfn]))

    def tables(self, mm: drgn.Object) -> PageTables:
        """The page tables of a process."""
        key = int(mm)
        if key not in self._tables:
            self._tables[key] = PageTables(self._source.prog, mm)
        return self._tables[key]

    def fact(self, pfn: int, address: int, stacks: Iterable[Stack]) -> FolioFact | None:
        """What is known of a folio; `address`: where processes that share it by fork map it."""
        try:
            return self._fact(pfn, address, stacks)
        except UNREADABLE as error:
            self._source.miss(f"folio {pfn:#x}", error)
            return None

    def _fact(self, pfn: int, address: int, stacks: Iterable[Stack]) -> FolioFact:
        page = self._pages.get(pfn)
        if page is None:
            pfn = self.head(pfn)
            page = self._pages[pfn]
        pages = int(compound_nr(page))
        return FolioFact(
            pfn=pfn,
            address=int(page),
            locked=bool(PageLocked(page)),
            device_private=_device_private(page, pfn),
            lru=bool(PageLRU(page)),
            pages=pages,
            mapcount=_mapcount(page, pages),
            refcount=int(page._refcount.counter),
            mappings=tuple(self._mappings(pfn, pages, address, stacks)) if address else (),
        )

    def _mappings(self, pfn: int, pages: int, address: int, stacks: Iterable[Stack]) -> Iterable[Mapping]:
        seen: set[int] = set()
        for stack in stacks:
            mm = stack.task.object.mm.read_()
            if not mm or int(mm) in seen:
                continue
            seen.add(int(mm))
            try:
                entry = self.tables(mm).entry(address)
            except UNREADABLE as error:
                self._source.miss(f"the page tables of {stack.task.fact.name}", error)
                continue
            if entry.kind != "none" and pfn <= entry.pfn < pfn + pages:
                yield Mapping(stack.pid, stack.task.fact.comm, address, str(entry))


def find_spin(source: Source, folios: Folios, stack: Stack) -> Spin | None:
    """The locked device-private folio that a running task faults on, if that is what it does."""
    wanted = _wanted(stack)
    if wanted is None:
        return None
    mm, current, first, end = wanted
    frame = stack.find(*_FAULT) or stack.find(*_STEPS)
    if frame is None:
        return None
    pages = max(0, (end - first) // _PAGE)
    try:
        tables = folios.tables(mm)
        for address in _addresses(current, first, end):
            entry = tables.entry(address)
            if entry.kind != "device private":
                continue
            pfn = folios.head(entry.pfn)
            if folios.locked(pfn):
                return Spin(
                    pid=stack.pid,
                    pfn=pfn,
                    address=address,
                    frame=frame[0],
                    function=str(frame[1].name),
                    entry=str(entry),
                    # hmm_vma_fault() notes the address before it faults (mm/hmm.c).
                    current=address == (first if current is None else current),
                    pages=pages,
                )
    except UNREADABLE as error:
        source.miss(f"what {stack.task.fact.name} faults on", error)
    return None


def _addresses(current: int | None, first: int, end: int) -> Iterable[int]:
    if current is not None:
        yield current
    yield from range(first, min(end, first + _RANGE_LIMIT * _PAGE), _PAGE)


def _wanted(stack: Stack) -> tuple[drgn.Object, int | None, int, int] | None:
    """Whose memory a fault is about: its mm, the address at this moment, and the range still to be done."""
    mm = current = None
    first = end = 0
    for frame in stack.frames:
        if frame.name in ("handle_mm_fault", "__handle_mm_fault", *_STEPS[:2]) and current is None:
            address = local(frame, "address", "addr")
            current = None if address is None else int(address) & ~(_PAGE - 1)
        vmf = local(frame, "vmf") if frame.name in _FAULT else None
        if vmf is not None and current is None:
            current = int(vmf.address) & ~(_PAGE - 1)
        if mm is None and (vma := local(frame, "vma")) is not None and frame.name in (*_FAULT, *_STEPS):
            mm = vma.vm_mm.read_() if vma else None
        if frame.name in _RANGE:
            walk = local(frame, "hmm_vma_walk")
            if walk is not None:
                first, end = int(walk.last), int(walk.range.end)
                mm = walk.range.notifier.mm.read_()
            break
    if mm is None or not mm:
        return None
    if current is not None and not end:
        first, end = current, current + _PAGE
    return mm, current, first, end


def find_holders(source: Source, pfn: int, pages: int, stacks: Sequence[Stack]) -> list[Hold]:
    """Tasks whose frames say that they locked a folio: first those whose own migration names it."""
    holds = []
    for stack in stacks:
        try:
            hold = (
                _migrating(source, stack, pfn, pages)
                or _faulting(source, stack, pfn)
                or _pointing(stack, pfn)
            )
        except UNREADABLE as error:
            source.miss(f"the variables of {stack.task.fact.name}", error)
            continue
        if hold:
            holds.append(hold)
    return sorted(holds, key=lambda hold: not hold.data)


def _migrating(source: Source, stack: Stack, pfn: int, pages: int) -> Hold | None:
    """The task is inside of a migration, and the array of what it collected names the folio.

    migrate_vma_collect() locks every folio that it marks MIGRATE_PFN_MIGRATE. Finalizing unlocks one by one
    and leaves the marks: then the array says nothing for sure. Nor does that of another migration.
    """
    finalizes = any("_finalize" in frame.name for frame in stack.frames)
    for number, frame in enumerate(stack.frames):
        array = _array(frame)
        if array is None:
            continue
        address, count = array
        values = _entries(source, stack, address, count)
        for index, value in enumerate(values):
            if value & _PFN_VALID and value & _PFN_MIGRATE and pfn <= value >> _PFN_SHIFT < pfn + pages:
                return Hold(
                    pid=stack.pid,
                    pfn=pfn,
                    frame=number,
                    function=str(frame.name),
                    data=not finalizes and _migrates(stack, number),
                    how=f"src[{index}] of {count} at {address:#x} is {value:#x}: "
                    f"pfn {value >> _PFN_SHIFT:#x}, MIGRATE_PFN_MIGRATE",
                )
    return None


def _migrates(stack: Stack, number: int) -> bool:
    """A frame with a migration's array, or the function that it has called, is a step of that migration."""
    return any(
        frame.name.startswith(("migrate_vma_", "migrate_device_"))
        for frame in stack.frames[max(0, number - 1) : number + 1]
    )


def _entries(source: Source, stack: Stack, address: int, count: int) -> Sequence[int]:
    try:
        return struct.unpack(f"<{count}Q", source.prog.read(address, 8 * count))
    except (drgn.FaultError, ValueError) as error:
        source.miss(f"the migration's array of {stack.task.fact.name}", error)
        return ()


def _array(frame: drgn.StackFrame) -> tuple[int, int] | None:
    """Address and length of a migration's source array, if the frame knows one."""
    if frame.name.startswith("migrate_device_"):
        array, count = local(frame, "src_pfns"), local(frame, "npages")
        if array is not None and count is not None and 0 < int(count) <= _ARRAY_LIMIT:
            return int(array), int(count)
    for _, value in locals_of(frame):
        kind = value.type_
        pointed = kind.type if kind.kind == drgn.TypeKind.POINTER else kind
        if pointed.kind == drgn.TypeKind.STRUCT and pointed.tag == "migrate_vma":
            if pointed is not kind and not value:
                continue
            count = int(value.npages)
            if 0 < count <= _ARRAY_LIMIT:
                return int(value.src), count
    return None


def _faulting(source: Source, stack: Stack, pfn: int) -> Hold | None:
    """The task's CPU fault is in the driver's migrate_to_ram, for which the core locks the page.

    do_swap_page() does so since v6.15, with a trylock: the kernels before have no spinner there either. For a
    folio that a PMD maps do_huge_pmd_device_private() does it, since v6.19.
    """
    found = stack.find("do_swap_page", "do_huge_pmd_device_private")
    if found is None or found[0] == 0:
        return None
    number, frame = found
    vmf = local(frame, "vmf")
    if vmf is None or not vmf.page or int(page_to_pfn(compound_head(vmf.page))) != pfn:
        return None
    called = stack.frames[number - 1].name
    callback = int(_pagemap(vmf.page.read_()).ops.migrate_to_ram)
    if called != source.prog.symbol(callback).name:
        return None
    how = f"vmf->page is pfn {pfn:#x}, and {called} is its pagemap's migrate_to_ram"
    return Hold(stack.pid, pfn, number, str(frame.name), True, how)


def _pointing(stack: Stack, pfn: int) -> Hold | None:
    """A variable of the task points to the folio, and the task does not wait for its lock."""
    for number, frame in enumerate(stack.frames):
        if frame.name in _WAITERS or frame.name.startswith(_FAULT):
            return None
        value = local(frame, "folio", "page")
        if value is None or value.type_.kind != drgn.TypeKind.POINTER or not value:
            continue
        page = compound_head(drgn.cast("struct page *", value))
        if int(page_to_pfn(page)) == pfn:
            return Hold(
                stack.pid, pfn, number, str(frame.name), False, f"a local variable points to {int(value):#x}"
            )
    return None


def _pagemap(page: drgn.Object) -> drgn.Object:
    try:
        return page.pgmap.read_()
    except AttributeError:
        return drgn.cast("struct folio *", page).pgmap.read_()


def _device_private(page: drgn.Object, pfn: int) -> bool:
    """The page belongs to a pagemap of device-private memory. On other pages the field is another one."""
    try:
        pagemap = _pagemap(page)
        if int(pagemap.type) != _MEMORY_DEVICE_PRIVATE:
            return False
        return int(pagemap.range.start) <= pfn * _PAGE <= int(pagemap.range.end)
    except UNREADABLE:
        return False


def _mapcount(page: drgn.Object, pages: int) -> int:
    if pages > 1:
        return int(drgn.cast("struct folio *", page)._large_mapcount.counter) + 1
    return int(page._mapcount.counter) + 1
