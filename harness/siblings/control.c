// SPDX-License-Identifier: GPL-2.0-only
// Not compiled: the shape as small as it gets. A spatch that does not mark the three lines in missed() and nothing
// else cannot be believed when it finds nothing in a kernel.

vm_fault_t missed(struct vm_fault *vmf)
{
	vm_fault_t ret = 0;

	if (folio_trylock(folio)) {
		spin_unlock(vmf->ptl);
		ret = migrate(vmf);
		folio_unlock(folio);
	} else {
		spin_unlock(vmf->ptl);
	}
	return ret;
}

vm_fault_t waits(struct vm_fault *vmf)
{
	vm_fault_t ret = 0;

	if (folio_trylock(folio)) {
		spin_unlock(vmf->ptl);
		ret = migrate(vmf);
		folio_unlock(folio);
	} else {
		softleaf_entry_wait_on_locked(entry, vmf->ptl);
	}
	return ret;
}
