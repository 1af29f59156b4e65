# SPDX-License-Identifier: GPL-2.0-only
"""A Linux kernel test harness for heterogeneous memory management (HMM)."""

__version__ = "0.1.0"
