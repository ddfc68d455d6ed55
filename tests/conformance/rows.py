"""Every row, section by section."""

from __future__ import annotations

from tests.conformance import rows_age, rows_basics, rows_filters, rows_lifecycle, rows_partial, rows_windows
from tests.conformance.table import Row

SECTIONS: dict[str, list[Row]] = {
    "Reading, batches, retries": rows_basics.ROWS,
    "Splits and partial responses": rows_partial.ROWS,
    "Age": rows_age.ROWS,
    "Lanes, shards, stops, destinations": rows_lifecycle.ROWS,
    "Tumbling windows": rows_windows.ROWS,
    "Filters": rows_filters.ROWS,
}
ROWS = [row for section in SECTIONS.values() for row in section]
RESHARDED = frozenset({"47", "48"})
"""Rows that have a test of their own in test_resharding.py."""


def proofs(row: Row) -> tuple[str, ...]:
    """Where a row is played."""
    if row.name in RESHARDED:
        return ("core", "kinesis-local")
    if row.core_only:
        return ("core",)
    return ("core", "ministack", "kinesis-local")
