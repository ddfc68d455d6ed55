"""Endpoints that are asked for once are those that botocore's rules give every time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.endpoints import KnownEndpoints

ARNS = [f"arn:aws:kinesis:eu-west-1:{account}:stream/s" for account in ("111111111111", "222222222222")]
OPERATIONS = ("GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


class Counted:
    """Rules that count how often they are asked."""

    def __init__(self, rules: Any) -> None:
        self.rules = rules
        self.asked = 0

    async def construct_endpoint(self, *arguments: Any) -> Any:
        self.asked += 1
        return await self.rules.construct_endpoint(*arguments)


async def client(stack: AsyncExitStack, service: str, endpoint: str | None = None) -> Any:
    return await AwsAccess(AwsSettings(), endpoint).client(service, "eu-west-1", stack, read_timeout=1.0)


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:1"])
async def test_each_operation_and_stream_has_its_own_endpoint_and_the_rules_are_asked_for_it_once(
    endpoint: str | None,
) -> None:
    async with AsyncExitStack() as stack:
        made = await client(stack, "kinesis", endpoint)
        rules = made._ruleset_resolver._rules
        counted = Counted(rules)
        known = KnownEndpoints(counted)
        said = {}
        for _ in range(3):
            for operation in OPERATIONS:
                model = made.meta.service_model.operation_model(operation)
                for arn in ARNS:
                    found = await known.construct_endpoint(model, {"StreamARN": arn}, {})
                    assert found == await rules.construct_endpoint(model, {"StreamARN": arn}, {})
                    said[operation, arn] = found.url
        assert counted.asked == len(OPERATIONS) * len(ARNS)
        assert len(set(said.values())) == (1 if endpoint else 4), "by account, for data and for control"


async def test_a_refusal_of_the_rules_is_not_kept() -> None:
    class Refusing:
        calls = 0

        async def construct_endpoint(self, *_: Any) -> str:
            self.calls += 1
            if self.calls == 1:
                raise ValueError("no such region")
            return "found"

    async with AsyncExitStack() as stack:
        model = (await client(stack, "kinesis")).meta.service_model.operation_model("GetRecords")
    known = KnownEndpoints(Refusing())
    with pytest.raises(ValueError, match="region"):
        await known.construct_endpoint(model, {}, {})
    assert await known.construct_endpoint(model, {}, {}) == "found"


@pytest.mark.parametrize(
    ("service", "remembers"), [("kinesis", True), ("dynamodbstreams", True), ("sqs", True), ("s3", False)]
)
async def test_only_clients_of_one_source_remember(service: str, remembers: bool) -> None:
    async with AsyncExitStack() as stack:
        made = await client(stack, service)
        assert isinstance(made._ruleset_resolver, KnownEndpoints) is remembers
