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
