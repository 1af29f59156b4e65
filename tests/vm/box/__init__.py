# SPDX-License-Identifier: GPL-2.0-only
"""A box made of QEMU, which tests treat as a machine in a lab."""
