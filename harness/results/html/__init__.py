# SPDX-License-Identifier: GPL-2.0-only
"""A run as one page: no script, nothing from elsewhere, readable on a phone, by day and by night."""
