"""What the models of the resource are made of: their base, and the types of values with the words for them. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from headrace.arns import ARN_PATTERN

ALLOWED = "x-allowed"
"""Key of the JSON schema that says in words what is allowed; it goes into sentences, not into the CRD."""
REFUSED = "refused"
"""Type of our own validation errors; their message is the sentence."""


class Part(BaseModel):
    """A part of the resource: frozen, camelCase outside, nothing unknown, null means absent, as to the API server."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return without_nulls(data)


def without_nulls(data: Any) -> Any:
    """A mapping without the properties that are null."""
    return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


def refuse(sentence: str) -> PydanticCustomError:
    """A validation error with a sentence of ours, which follows the property's path."""
    return PydanticCustomError(REFUSED, "{sentence}", {"sentence": sentence})


def allowed(words: str) -> dict[str, Any]:
    """For `json_schema_extra`: what a property allows, where bounds alone do not tell it well."""
    return {ALLOWED: words}


_HTTP_PATTERN = r"^https?://[^\s/?#]+[^\s]*$"
_NOT_A_URL = "an http:// or https:// URL"


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # UnicodeError among them: a label of a name that is empty or too long
        usable = False
    if not usable:
        raise refuse(f"must be {_NOT_A_URL} with a host")
    return url


_RFC3339_PATTERN = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)


def _check_instant(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise refuse(f"must be {_INSTANT}") from None
    return text


_INSTANT = "a time in UTC with milliseconds, such as 2026-01-31T12:00:00.000Z"
_LAST_SECOND = 253_402_300_799
"""Of the year 9999."""


def _epoch(value: Any) -> Any:
    """Epoch seconds of an RFC 3339 time; numbers stay as they are."""
    if not isinstance(value, str) or re.fullmatch(_RFC3339_PATTERN, value) is None:
        return value
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        return value


Whole = Annotated[int, Strict()]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Field(strict=True, max_length=1024)]
ArnText = Annotated[
    str,
    Field(
        strict=True,
        max_length=1024,
        pattern=ARN_PATTERN,
        json_schema_extra=allowed("an ARN such as arn:aws:kinesis:eu-west-1:123456789012:stream/orders"),
    ),
]
KeyArn = Annotated[
    str,
    Field(
        strict=True,
        max_length=1024,
        pattern=f"^$|{ARN_PATTERN}",
        json_schema_extra=allowed("the ARN of a KMS key, or empty"),
    ),
]
HttpUrl = Annotated[
    str,
    Field(strict=True, max_length=2048, pattern=_HTTP_PATTERN, json_schema_extra=allowed(_NOT_A_URL)),
    AfterValidator(_check_url),
]
EpochSeconds = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=0, le=_LAST_SECOND),
    BeforeValidator(_epoch),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maximum": _LAST_SECOND,
            "maxLength": 40,
            "pattern": _RFC3339_PATTERN,
            ALLOWED: "a time: unix seconds, or RFC 3339 such as 2026-01-31T12:00:00Z",
        }
    ),
]
SequenceNumber = Annotated[
    str,
    Field(strict=True, max_length=1024, pattern="^[0-9]+$", json_schema_extra=allowed("a sequence number: digits")),
]
_INSTANT_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$"
Instant = Annotated[
    str,
    Field(strict=True, pattern=_INSTANT_PATTERN),
    AfterValidator(_check_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _INSTANT_PATTERN, ALLOWED: _INSTANT}),
]
"""A time in one form only, so that texts can be compared."""
Open = dict[str, Any]
"""A piece of another API (Kubernetes), passed on as it is."""
