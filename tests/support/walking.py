"""Walking every state that steps lead to, shortest way first, so that the first trace found is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)
Steps = Callable[[S], Iterable[tuple[str, S]]]


class BrokenError(AssertionError):
    """A step that an invariant forbids; the walk adds the steps that led to it."""


class Walked(NamedTuple):
    """How much was walked."""

    states: int
    steps: int
    whole: bool
    """Whether nothing is left to walk: the depth was no bound."""


def walk(starts: Iterable[S], steps: Steps[S], deepest: int = 1_000_000) -> Walked:
    """Takes every step from every state that can be reached in fewer than `deepest` steps."""
    came: dict[S, tuple[S, str] | None] = dict.fromkeys(starts)
    todo = deque((state, 0) for state in came)
    taken = 0
    while todo and todo[0][1] < deepest:
        state, depth = todo.popleft()
        try:
            for name, after in steps(state):
                taken += 1
                if after not in came:
                    came[after] = (state, name)
                    todo.append((after, depth + 1))
        except AssertionError as broken:
            raise BrokenError("\n".join([*_trace(came, state), str(broken)])) from broken
    return Walked(len(came), taken, not todo)


def _trace(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    return [f"{name}\n    {after}" for name, after in reversed(list(_back(came, state)))]


def _back(came: dict[S, tuple[S, str] | None], state: S) -> Iterator[tuple[str, S]]:
    at: S | None = state
    while at is not None:
        before = came[at]
        yield ("start" if before is None else before[1]), at
        at = None if before is None else before[0]
