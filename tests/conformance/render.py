"""docs/conformance.md, rendered from the rows: `make conformance`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.conformance.rows import OF_DYNAMODB, ROWS, SECTIONS, proofs
from tests.conformance.rows_queues import QUEUE_ROWS, QueueRow
from tests.conformance.rows_refused import REFUSED, Refused
from tests.conformance.table import Row

Cells = tuple[str, str, str, str, str, str]
FILE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
HEAD = f"""# What Headrace does, behaviour by behaviour

Made by `make conformance` from the rows that the tests play, {len(ROWS) + len(QUEUE_ROWS) + len(REFUSED)} of them, {len(OF_DYNAMODB)} with two sources; a test fails when this
file is not what they say.

*Then* is exact and complete: `[1,2,3]✗` is a call with these records and how it was answered (✓ success, ✗ function error, P(k)
record k reported, I an invalid answer, T 429, E not reached, R 413, † never answered), `×3` three times in a row. `→D{{RAE,1..3,n3,c3,
Unhandled}}` is a failure record: condition (RAE RetryAttemptsExhausted, AGE RecordAgeExceeded), first to last record, batchSize,
approximateInvokeCount, functionError (`-`: no responseContext), and with tumbling windows the window. `[1]✓…[9]✓` is a call for
each of them; calls side by side, as those of several lanes, are told in the order of their records.

*Proven by*: `core` is the real data plane in virtual time around a stream, function, destination and store of the test's
(`tests/conformance/test_core.py`: order, times, checkpoint, metrics, last result); `ministack` and `kinesis-local` are `headrace run`
as a process against that emulator (`tests/conformance/test_outside.py`, with windows of two seconds instead of a minute, and
`test_resharding.py`); `core only` says why it is not played so. What is told of a Kinesis stream holds for a DynamoDB stream in the same words,
except where `Kinesis only` says why not: `+ dynamodb` is the row played with a DynamoDB stream, where a record is a change of an item, its
partition key the item's primary key, and the failure record a `DDBStreamBatchInfo`; outside, a table's stream on ministack. `validate` is `headrace validate` of a manifest (`test_refused.py`).
Of a queue the numbers are messages as they were sent, `→DLQ{{1}}` one that the redrive policy took, `×…` as often as there is time for; `core`
is a queue that hides, locks and redrives as SQS does (`test_queues.py`; there also when, and with which ApproximateReceiveCount), `ministack` the
tests of `tests/integration/test_queues.py`.
*Differs* names what is deliberately not AWS's, or what AWS
does not tell; where it is empty, the behaviour is AWS's. Request ids are derived from the batch everywhere; AWS draws them. Names of
S3 objects end in a derived UUID instead of a random one.
"""


def render() -> str:
    """The whole file."""
    lines = [line for title, rows in SECTIONS.items() for line in _section(title, [_cells(row) for row in rows])]
    lines += _section("SQS queues", [_of_queue(row) for row in QUEUE_ROWS])
    return "\n".join([HEAD, *lines, *_section("Refusals", [_refusal(row) for row in REFUSED])])


def _cells(row: Row) -> Cells:
    proven = ", ".join(proofs(row)) + (f" only: {row.core_only}" if proofs(row) == ("core",) else "") + _besides(row)
    return f"`{row.name}`", row.claim, row.rule, f"`{row.then or 'nothing'}`", row.ours, proven


def _besides(row: Row) -> str:
    """What of it holds for a DynamoDB stream."""
    if row.source != "kinesis":
        return ""
    if row.kinesis_only:
        return f"; Kinesis only: {row.kinesis_only}"
    (same,) = (one for one in OF_DYNAMODB if one.name == row.name)
    return "; + dynamodb" + (" (core)" if proofs(same) == ("core",) and proofs(row) != ("core",) else "")


def _of_queue(row: QueueRow) -> Cells:
    proven = "core, ministack" if row.outside else "core"
    return f"`{row.name}`", row.claim, row.rule, f"`{row.then or 'nothing'}`", row.ours, proven


def _refusal(row: Refused) -> Cells:
    return f"`{row.name}`", row.claim, row.rule, f"refused: `spec.{row.then}`", row.ours, "validate"


def _section(title: str, rows: list[Cells]) -> Iterator[str]:
    yield from (
        f"## {title}",
        "",
        "| row | behaviour | contract | then | differs | proven by |",
        "|---|---|---|---|---|---|",
    )
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


if __name__ == "__main__":
    FILE.write_text(render())
