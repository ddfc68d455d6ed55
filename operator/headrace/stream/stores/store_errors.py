"""What an API server or a table says, in the words of a store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError, ObjectNotFound
from headrace.errors import LeaseLost, Reason, StoreError
from headrace.stream.stores import BrokenObject

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def told_as_store_error() -> Iterator[None]:
    """What is gone is lost; anything else may work later, what is broken once it is mended."""
    try:
        yield
    except ObjectNotFound as error:
        raise LeaseLost(error.message) from error
    except BrokenObject as error:
        raise StoreError(Reason.LEASE_BROKEN, error.message) from error
    except ClusterError as error:
        raise StoreError(error.reason, error.message) from error


def most_telling(group: ExceptionGroup[Exception]) -> Exception:
    """One of the errors that stands for all: a lost lease before a store that does not answer; a bug as it is."""
    _, bugs = group.split((LeaseLost, StoreError))
    lost = group.subgroup(LeaseLost)
    return bugs or (lost or group).exceptions[0]
