"""docs/conformance.md says what the rows say, and no two rows bear the same name."""

from __future__ import annotations

from tests.conformance.render import FILE, render
from tests.conformance.rows import ROWS


def test_the_document_is_what_the_rows_render() -> None:
    assert FILE.read_text() == render(), "say make conformance"


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
