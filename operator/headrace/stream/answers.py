"""Answers of AWS that carry records: their JSON as it is, without botocore's conversion of every value.

The generic parser spends 20 times as long on a record as orjson does, and turns into bytes what every event wants as
base64 again. Signing, endpoints, credentials, errors and every other answer stay botocore's.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiobotocore.parsers import AioJSONParser, AioResponseParserFactory
from botocore.parsers import ResponseParserError

RAW = frozenset({"GetRecordsOutput", "ReceiveMessageResult"})
"""The shapes of such answers: blobs in them are base64 text, times epoch seconds."""

YEAR_10000 = 253_402_300_800
"""Epoch seconds of the first instant that no failure record could write."""


class RawAnswer(dict[str, Any]):
    """An answer as its JSON has it.

    `plain` says that no text in it was escaped: each may go between quotes again as it is.
    """

    def __init__(self, answer: dict[str, Any], *, plain: bool) -> None:
        super().__init__(answer)
        self.plain = plain


class RecordsParserFactory(AioResponseParserFactory):
    """botocore's parsers, except for the answers of RAW."""

    def create_parser(self, protocol_name: str) -> Any:
        """The parser of a protocol; botocore asks for one at each answer."""
        return _RecordsParser() if protocol_name == "json" else super().create_parser(protocol_name)


class _RecordsParser(AioJSONParser):
    def _handle_json_body(self, raw_body: bytes, shape: Any) -> Any:
        if shape.name not in RAW:
            return super()._handle_json_body(raw_body, shape)  # type: ignore[misc] # the stubs leave it out
        try:
            answer = orjson.loads(raw_body)
        except orjson.JSONDecodeError as error:
            raise ResponseParserError("the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise ResponseParserError("the answer is not an object")
        return RawAnswer(answer, plain=b"\\" not in raw_body)


def is_plain(answer: object) -> bool:
    """Whether no text of an answer was escaped."""
    return isinstance(answer, RawAnswer) and answer.plain
