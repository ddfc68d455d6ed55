"""Records for tests: number n stands for sequence number n, arrived at second n unless told otherwise."""

from __future__ import annotations

from headrace.records import Batch, Record


def record(number: int, *, arrival: float | None = None, event: bytes | None = None, key: str = "k") -> Record:
    at = float(number) if arrival is None else arrival
    return Record(str(number), at, key, event if event is not None else f'{{"n":{number}}}'.encode())


def records(*numbers: int, arrival: float | None = None) -> Batch:
    return tuple(record(number, arrival=arrival) for number in numbers)


def numbers(batch: Batch) -> list[int]:
    return [int(one.sequence_number) for one in batch]
