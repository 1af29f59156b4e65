# SPDX-License-Identifier: GPL-2.0-only
"""The preemption models a kernel offers, as its own source and configuration say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.kernel.preemption import check_offered, offered_models

#: The shape of what 7.x has: which words are taken depends on the architecture.
CHOOSY = """
int sched_dynamic_mode(const char *str)
{
# ifndef CONFIG_ARCH_HAS_PREEMPT_LAZY
	if (!strcmp(str, "none"))
		return 1;
	if (!strcmp(str, "voluntary"))
		return 2;
# else
	if (!strcmp(str, "lazy"))
		return 3;
# endif
	if (!strcmp(str, "full"))
		return 4;
	return -22;
}

static int other(const char *str)
{
	return strcmp(str, "elsewhere");
}
"""
DYNAMIC = "CONFIG_PREEMPT_DYNAMIC=y\n"


def tree(folder: Path, text: str) -> Path:
    (folder / "kernel" / "sched").mkdir(parents=True)
    (folder / "kernel" / "sched" / "core.c").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("config", "models"),
    [
        (DYNAMIC, {"none", "voluntary", "full"}),
        (f"{DYNAMIC}CONFIG_ARCH_HAS_PREEMPT_LAZY=y\n", {"lazy", "full"}),
        ("# CONFIG_PREEMPT_DYNAMIC is not set\nCONFIG_ARCH_HAS_PREEMPT_LAZY=y\n", set()),
    ],
)
def test_models_are_what_the_source_takes_with_this_configuration(
    tmp_path: Path, config: str, models: set[str]
) -> None:
    assert offered_models(tree(tmp_path, CHOOSY), config) == models


def test_a_source_that_knows_no_models_offers_none(tmp_path: Path) -> None:
    assert offered_models(tree(tmp_path, "int other;\n"), DYNAMIC) == set()


def test_what_a_kernel_does_not_offer_is_refused_with_what_it_does() -> None:
    check_offered("lazy", "stock", {"full", "lazy"})
    with pytest.raises(UserError, match=r"preempt=none cannot be had of the kernel stock: .*full, lazy"):
        check_offered("none", "stock", {"lazy", "full"})
    with pytest.raises(UserError, match="without CONFIG_PREEMPT_DYNAMIC"):
        check_offered("full", "odd", ())
