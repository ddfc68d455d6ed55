"""The page that explains a mapping's status knows every reason there is."""

from __future__ import annotations

import re
from pathlib import Path

from headrace.errors import Reason

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


def test_the_table_of_reasons_is_the_one_list() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Reasons")[2], re.MULTILINE)
    assert [name for name, _, _ in rows] == list(Reason)
    assert all(meaning.strip() and advice.strip() for _, meaning, advice in rows)
