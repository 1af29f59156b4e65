# SPDX-License-Identifier: GPL-2.0-only
"""Write the JSON Schema files anew."""

from harness.results.records import DOCUMENTS
from harness.results.schemas import file_of, generated

for name in DOCUMENTS:
    file_of(name).write_text(generated(name), encoding="utf-8")
