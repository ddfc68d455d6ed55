"""Every row, section by section."""

from __future__ import annotations

from dataclasses import replace

from tests.conformance import (
    rows_age,
    rows_basics,
    rows_dynamodb,
    rows_filters,
    rows_lifecycle,
    rows_partial,
    rows_windows,
)
from tests.conformance.table import Row

SECTIONS: dict[str, list[Row]] = {
    "Reading, batches, retries": rows_basics.ROWS,
    "Splits and partial responses": rows_partial.ROWS,
    "Age": rows_age.ROWS,
    "Lanes, shards, stops, destinations": rows_lifecycle.ROWS,
    "Tumbling windows": rows_windows.ROWS,
    "Filters of Kinesis streams": rows_filters.ROWS,
    "DynamoDB streams": rows_dynamodb.ROWS,
}
ROWS = [row for section in SECTIONS.values() for row in section]
OF_DYNAMODB = [replace(row, source="dynamodb") for row in ROWS if row.source == "kinesis" and not row.kinesis_only]
"""Those of Kinesis that hold for DynamoDB streams word by word."""
ALL = [*ROWS, *OF_DYNAMODB]
RESHARDED = frozenset({"47", "48"})
"""Rows that have a test of their own in test_resharding.py."""


def proofs(row: Row) -> tuple[str, ...]:
    """Where a row is played with its own source."""
    if row.name in RESHARDED:
        return ("core", "kinesis-local") if row.source == "kinesis" else ("core",)
    if row.core_only:
        return ("core",)
    return ("core", "ministack", "kinesis-local") if row.source == "kinesis" else ("core", "dynamodb on ministack")
