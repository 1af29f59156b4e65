# SPDX-License-Identifier: GPL-2.0-only
"""Trials as tests of pytest, beside a lab's own."""
