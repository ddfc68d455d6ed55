"""Where a source's calls go, asked once: botocore goes through the service's rules for endpoints before every request.

The rules look at the operation and at some of its arguments, the stream above all, which are the same for every read.
"""

from __future__ import annotations

from typing import Any

ONE_SOURCE = frozenset({"kinesis", "dynamodbstreams", "sqs"})
"""Services of which a client reads one stream or queue, and no hook of botocore's meddles with endpoints."""


class KnownEndpoints:
    """A client's rules for endpoints, with what they have said before; an error is not kept."""

    def __init__(self, rules: Any) -> None:
        self._rules = rules
        self._known: dict[tuple[object, ...], Any] = {}

    async def construct_endpoint(self, operation_model: Any, call_args: Any, request_context: Any) -> Any:
        """Where a call goes, and how it is signed."""
        looked_at = [call_args.get(each.member_name) for each in operation_model.context_parameters]
        key = (operation_model.name, *looked_at)
        if key not in self._known:
            self._known[key] = await self._rules.construct_endpoint(operation_model, call_args, request_context)
        return self._known[key]

    def __getattr__(self, name: str) -> Any:
        """Everything else is the rules' own."""
        return getattr(self._rules, name)


def remember_endpoints(service: str, client: Any) -> None:
    """Has a client of one source ask its rules once for each operation."""
    if service in ONE_SOURCE:
        client._ruleset_resolver = KnownEndpoints(client._ruleset_resolver)  # noqa: SLF001 - botocore has no other way
