"""kopf, kept to what it is here for: it watches and calls the handlers. After this: `handlers.py`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import kopf

from headrace.control.handlers import OWNED, selector
from headrace.errors import HeadraceError
from headrace.resources import LABEL_MAPPING_UID
from headrace.signals import set_on_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10.0
LONGEST_PAUSE = 10.0


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How long one watch lasts, in seconds; then it is begun anew where it ended.

    The server ends it after `server`; what lasts, or is silent, for `client` is given up here: so long at most a dead
    connection, or a server that says nothing any more, hides a change.
    """

    server: int = 60
    client: float = 75.0


async def watch(
    handlers: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    settings: WatchSettings,
    ready: asyncio.Event,
    stop: asyncio.Event,
    end: asyncio.Event,
) -> None:
    """Calls the handlers for what is there and what changes, until `end`; no namespaces: all of them.

    Raises HeadraceError when the API server knows this operator no more.
    """
    logging.getLogger("kopf").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=handlers,
        settings=_kopf_settings(settings),
        standalone=True,
        identity=cast("Any", "headrace"),  # of no use without peering, but kopf would look for a user name
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        stop_flag=end,
    )
    set_on_signal(stop)  # kopf took them
    try:
        await kopf.run_tasks(tasks, ignored=others)
    except kopf.LoginError:
        raise HeadraceError("the API server knows this operator's credentials no more; start it again") from None


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than a traceback that kopf leaves behind when it ends: who ended it says why in a sentence.

    Each task tells of refused credentials by itself, and a watch that connects just then fails an assertion in the
    callback by which kopf would end it.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, AssertionError):
        frames = traceback.walk_tb(error.__traceback__)
        return not any(frame.f_code.co_name == "request_cancel_callback" for frame, _ in frames)
    return not isinstance(error, kopf.LoginError)


class _Backoffs:
    """Pauses between tries to reach the API server, without end: after a finite list kopf gives up for good."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 3.0, 5.0), itertools.repeat(LONGEST_PAUSE))


def _kopf_settings(watches: WatchSettings) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # the kinds are fixed; watching namespaces and CRDs would need more rights
    settings.watching.server_timeout = watches.server
    settings.watching.client_timeout = watches.client
    settings.watching.inactivity_timeout = watches.client
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Backoffs()
    settings.process.ultimate_exiting_timeout = None
    for kind in OWNED:
        settings.watching.label_selectors[selector(kind)] = LABEL_MAPPING_UID
    return settings
