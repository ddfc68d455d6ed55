"""What one value of an event can be asked by a filter pattern (contract E.4). Pure: operator in, test or refusal out.

`filter_patterns.py` puts the tests together. Where the contract is silent, what is refused is what EventBridge refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
"""Where in a pattern something stands: names of fields, indices of lists."""

REFUSAL = "Invalid filter pattern definition."
"""AWS's own words (V16), with which every refusal begins."""

LARGEST_BOUND = Decimal(5_000_000_000)
MOST_DIGITS = 15
"""What a number that `numeric` compares with may be: at most so far from zero, with so many digits."""

_LONGEST_NAME = 40


class InvalidPattern(ValueError):
    """A pattern that is none; its text is one sentence that says where and why."""

    def __init__(self, reason: str, path: Path = (), position: int | None = None) -> None:
        where = render(path) if position is None else f"character {position + 1}"
        super().__init__(f"{REFUSAL} {where}: {reason}")


class Number(NamedTuple):
    """A JSON number as it is written: 300, 300.0 and 3.0e2 are three exact values."""

    text: str


Scalar = str | Number | bool | None
Test = Callable[[Scalar], bool]
_Compare = Callable[[Decimal, Decimal], bool]


def compile_operator(expression: dict[str, Any], at: Path) -> Test:
    """The test of `{OPERATOR: operand}` as it stands in a list of a pattern; raises InvalidPattern."""
    if len(expression) != 1:
        raise InvalidPattern("must hold exactly one operator", at)
    (name, operand) = next(iter(expression.items()))
    if name in _EVENTBRIDGE_ONLY:
        raise InvalidPattern("is an operator of EventBridge alone, not of event source mappings", (*at, name))
    if name not in _OPERATORS:
        raise InvalidPattern(f"is not an operator; known are {', '.join(_OPERATORS)}", (*at, name))
    return _OPERATORS[name](operand, (*at, name))


# ---- texts


def _equals_ignore_case(operand: Any, at: Path) -> Test:
    wanted = _text(operand, at).casefold()
    return lambda value: isinstance(value, str) and value.casefold() == wanted


def _prefix(operand: Any, at: Path) -> Test:
    return _affix(str.startswith, operand, at)


def _suffix(operand: Any, at: Path) -> Test:
    return _affix(str.endswith, operand, at)


def _affix(holds: Callable[[str, str], bool], operand: Any, at: Path) -> Test:
    """`prefix` or `suffix`, of a text or of `{"equals-ignore-case": text}`."""
    if not isinstance(operand, dict):
        text = _text(operand, at)
        return lambda value: isinstance(value, str) and holds(value, text)
    if list(operand) != ["equals-ignore-case"]:
        raise InvalidPattern("must be a string or an object with equals-ignore-case alone", at)
    folded = _text(operand["equals-ignore-case"], (*at, "equals-ignore-case")).casefold()
    return lambda value: isinstance(value, str) and holds(value.casefold(), folded)


def _text(operand: Any, at: Path) -> str:
    if not isinstance(operand, str):
        raise InvalidPattern("must be a string", at)
    return operand


# ---- anything-but


def _anything_but(operand: Any, at: Path) -> Test:
    if isinstance(operand, dict):
        return _anything_but_like(operand, at)
    values = operand if isinstance(operand, list) else [operand]
    if not values or len({type(value) for value in values}) > 1 or not isinstance(values[0], str | Number):
        raise InvalidPattern("must be a string, a number, or a list of either strings or numbers", at)
    excluded = frozenset(values)
    return lambda value: value not in excluded


def _anything_but_like(operand: dict[str, Any], at: Path) -> Test:
    if len(operand) != 1 or not operand.keys() <= _NEGATABLE.keys():
        raise InvalidPattern(f"must hold exactly one of {', '.join(_NEGATABLE)}", at)
    (name, listed) = next(iter(operand.items()))
    at = (*at, name)
    texts = listed if isinstance(listed, list) else [listed]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidPattern("must be a string or a list of strings", at)
    if "" in texts and name != "equals-ignore-case":
        raise InvalidPattern("must not be empty: nothing could match", at)
    excluded = [_NEGATABLE[name](text, at) for text in texts]
    return lambda value: not any(test(value) for test in excluded)


# ---- numbers


def _numeric(operand: Any, at: Path) -> Test:
    """`[operator, bound]`, or a range: a lower bound, then an upper one."""
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise InvalidPattern('must be a list like [">", 10] or [">", 10, "<=", 20]', at)
    comparisons = [_comparison(operand, index, at) for index in range(0, len(operand), 2)]
    if len(operand) == 4:  # noqa: PLR2004 - two operators, two bounds
        _check_range(operand, at)

    def within(value: Scalar) -> bool:
        number = decimal(value) if isinstance(value, Number) else None
        return number is not None and all(compare(number, bound) for compare, bound in comparisons)

    return within


def _comparison(operand: list[Any], index: int, at: Path) -> tuple[_Compare, Decimal]:
    name, bound = operand[index : index + 2]
    if not isinstance(name, str) or name not in _COMPARISONS:
        raise InvalidPattern(f"must be one of {' '.join(_COMPARISONS)}", (*at, index))
    number = decimal(bound) if isinstance(bound, Number) else None
    if number is None or number.copy_abs() > LARGEST_BOUND or _digits(number) > MOST_DIGITS:
        reason = f"must be a number from -5e9 to 5e9 with at most {MOST_DIGITS} digits"
        raise InvalidPattern(reason, (*at, index + 1))
    return _COMPARISONS[name], number


def _check_range(operand: list[Any], at: Path) -> None:
    low, bottom, high, top = operand
    if low not in (">", ">=") or high not in ("<", "<="):
        raise InvalidPattern("must begin a range with > or >= and end it with < or <=", at)
    if Decimal(bottom.text) >= Decimal(top.text):
        raise InvalidPattern("must have a lower bound below the upper one", at)


def _digits(number: Decimal) -> int:
    return len("".join(map(str, number.as_tuple().digits)).strip("0"))


def decimal(number: Number) -> Decimal | None:
    """The exact value of a number; None where its exponent is beyond reckoning."""
    try:
        return Decimal(number.text)
    except InvalidOperation:
        return None


# ---- exists


def _exists(operand: Any, at: Path) -> Test:
    """`{"exists": false}` asks for a field, not for a value: `filter_patterns.py` sees to it."""
    if operand is not True:
        raise InvalidPattern("must be true or false", at)
    return lambda _: True


_NEGATABLE = {"prefix": _prefix, "suffix": _suffix, "equals-ignore-case": _equals_ignore_case}
_OPERATORS = {**_NEGATABLE, "anything-but": _anything_but, "numeric": _numeric, "exists": _exists}
_EVENTBRIDGE_ONLY = ("wildcard", "cidr")
_COMPARISONS: dict[str, _Compare] = {
    "=": Decimal.__eq__,
    ">": Decimal.__gt__,
    ">=": Decimal.__ge__,
    "<": Decimal.__lt__,
    "<=": Decimal.__le__,
}


def render(path: Path) -> str:
    """A path in a sentence: `data.order[0].numeric`; names that could be misread stand in brackets."""
    rendered = ""
    for step in path:
        if isinstance(step, int):
            rendered += f"[{step}]"
        elif step and not set(step) & set('.[]"'):
            rendered += f".{_shown(step)}" if rendered else _shown(step)
        else:
            rendered += f'["{_shown(step)}"]'
    return rendered or "the pattern"


def _shown(name: str) -> str:
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
