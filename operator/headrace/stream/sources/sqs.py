"""SQS by ReceiveMessage (contract F.1, D.3).

After this: `filtering.py` and `queues/gathering.py`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from headrace.errors import Reason
from headrace.records import Record
from headrace.stream.answers import YEAR_10000
from headrace.stream.aws import FAILURES, AwsAccess, Client
from headrace.stream.queues.messages import Message, QueueFacts
from headrace.stream.sources.asking import ADVICE, source_error, understanding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.arns import Arn

CALL_TIMEOUT = 10.0
"""Seconds for an answer, beside those that a receive waits for messages."""
ON_THE_WAY = 1.0
"""Seconds for which an answer may have been under way: the time that a message is invisible runs from its start."""
AT_ONCE = 10
"""Messages of one receive, or one request that deletes or holds, at most."""

_ADVICE = {
    **ADVICE,
    Reason.NOT_FOUND: "create it, or correct spec.eventSourceArn; it must lie in the region that is asked"
    " (spec.aws.region)",
    Reason.ACCESS_DENIED: "allow sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility, GetQueueAttributes and"
    " GetQueueUrl on it",
}
_ELSEWHERE = frozenset({Reason.NOT_FOUND, Reason.REJECTED, Reason.UNREACHABLE, Reason.SERVICE_ERROR})
"""Reasons for which the queue's address is looked up again."""
_GONE = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})
"""Codes of a receipt that is of no more use: its time has passed, or the message is deleted."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What came of a request for several messages: for which it was done, is to be tried again, is too late."""

    done: Sequence[Message]
    again: Sequence[Message]
    late: Sequence[Message]


class SqsQueue:
    """A queue, standard or FIFO."""

    def __init__(self, arn: Arn, region: str, access: AwsAccess) -> None:
        self._arn = arn
        self._region = region
        self._client = Client(access, "sqs", region, read_timeout=20.0 + CALL_TIMEOUT)
        self._url: str | None = None

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._arn.resource

    async def facts(self) -> QueueFacts:
        """GetQueueAttributes; raises SourceError."""
        answer = await self._call("get_queue_attributes", AttributeNames=["All"])
        with understanding(str(self._arn), "SQS"):
            told = answer.get("Attributes") or {}
            return QueueFacts(
                visibility=float(told.get("VisibilityTimeout") or 0),
                backlog=int(told.get("ApproximateNumberOfMessages") or 0),
                dead_letters=bool(told.get("RedrivePolicy")),
            )

    async def receive(self, most: int, wait: int, visibility: float) -> Sequence[Message]:
        """Up to `most` (10) messages, after `wait` seconds (20) at most where there is none; raises SourceError.

        They are invisible for so many seconds; cut short, what was on its way here comes again after that.
        """
        began = time.monotonic()
        answer = await self._call(
            "receive_message",
            wait=wait,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
            MaxNumberOfMessages=min(most, AT_ONCE),
            WaitTimeSeconds=wait,
            VisibilityTimeout=int(visibility),
        )
        handed_over = max(began, time.monotonic() - ON_THE_WAY)
        with understanding(str(self._arn), "SQS"):
            return [self._message(entry, handed_over, visibility) for entry in answer.get("Messages") or ()]

    def _message(self, entry: Mapping[str, Any], received: float, visibility: float) -> Message:
        return to_message(entry, str(self._arn), self._region, received, received + int(visibility))

    async def delete(self, messages: Sequence[Message]) -> Confirmed:
        """DeleteMessageBatch, of ten at most; raises SourceError."""
        entries = [{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(messages)]
        return _confirmed(await self._call("delete_message_batch", Entries=entries), messages, self._arn)

    async def hold(self, messages: Sequence[Message], seconds: Sequence[float]) -> Confirmed:
        """ChangeMessageVisibilityBatch, of ten at most: for so many seconds from now on; raises SourceError."""
        entries = [
            {"Id": str(index), "ReceiptHandle": one.receipt, "VisibilityTimeout": int(each)}
            for index, (one, each) in enumerate(zip(messages, seconds, strict=True))
        ]
        return _confirmed(await self._call("change_message_visibility_batch", Entries=entries), messages, self._arn)

    async def _call(self, operation: str, *, wait: int = 0, **arguments: Any) -> Any:
        """One API call about the queue, whose address is looked up once, and again where it may be another by now."""
        try:
            await self._client.open()
            async with asyncio.timeout(wait + CALL_TIMEOUT):
                if self._url is None:
                    self._url = await self._address()
                return await self._client.call(operation, QueueUrl=self._url, **arguments)
        except FAILURES as error:
            told = source_error(str(self._arn), error, _ADVICE)
            if told.reason in _ELSEWHERE:
                self._url = None
            raise told from error

    async def _address(self) -> str:
        asked = {"QueueName": self._arn.resource, "QueueOwnerAWSAccountId": self._arn.account}
        answer = await self._client.call("get_queue_url", **asked)
        return str(answer["QueueUrl"])

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def to_message(entry: Mapping[str, Any], queue_arn: str, region: str, received: float, expires: float) -> Message:
    """A message of a ReceiveMessage answer; both times are seconds of a monotonic clock. Raises one of MALFORMED."""
    receipt = entry["ReceiptHandle"]
    if not isinstance(receipt, str):
        raise TypeError("no receipt")
    record = to_record(entry, queue_arn, region)
    return Message(record, receipt, received, expires, int(entry["Attributes"]["ApproximateReceiveCount"]))


def to_record(entry: Mapping[str, Any], queue_arn: str, region: str) -> Record:
    """A message of a ReceiveMessage answer, which is raw JSON, as it stands in the Lambda event (contract D.3).

    The body stays the text it is. Raises one of MALFORMED for what is no message.
    """
    message_id, body, attributes = entry["MessageId"], entry["Body"], entry.get("Attributes") or {}
    sent = int(attributes["SentTimestamp"]) / 1000
    group = attributes.get("MessageGroupId") or ""
    if not all(isinstance(text, str) for text in (message_id, body, group)) or not 0 <= sent < YEAR_10000:
        raise ValueError("not a message")
    event = {
        "messageId": message_id,
        "receiptHandle": entry["ReceiptHandle"],
        "body": body,
        "attributes": attributes,
        "messageAttributes": {name: _attribute(one) for name, one in (entry.get("MessageAttributes") or {}).items()},
        "md5OfBody": entry.get("MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    }
    if md5 := entry.get("MD5OfMessageAttributes"):
        event["md5OfMessageAttributes"] = md5
    return Record(message_id, sent, group, orjson.dumps(event))


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    """A message attribute in Lambda's words; binary is base64, as it came."""
    told = {"stringValue": value.get("StringValue"), "binaryValue": value.get("BinaryValue")}
    present = {name: one for name, one in told.items() if one is not None}
    return present | {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}


def _confirmed(answer: Mapping[str, Any], messages: Sequence[Message], arn: Arn) -> Confirmed:
    """What an answer says of each message; one that it does not mention is tried again."""
    with understanding(str(arn), "SQS"):
        done = {int(one["Id"]) for one in answer.get("Successful") or ()}
        late = {int(one["Id"]) for one in answer.get("Failed") or () if _is_late(one)}
        numbered = tuple(enumerate(messages))
        return Confirmed(
            done=[one for index, one in numbered if index in done],
            again=[one for index, one in numbered if index not in done | late],
            late=[one for index, one in numbered if index in late - done],
        )


def _is_late(failed: Mapping[str, Any]) -> bool:
    return str(failed.get("Code", "")).rpartition(".")[2] in _GONE
