"""Who counts as alive, judged by our own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.heartbeat import TERM, Heartbeat, ReportedCondition, heartbeat_of, lease
from headrace.liveness import Liveness
from headrace.resources import MappingRef

if TYPE_CHECKING:
    from headrace.cluster import Body

REF = MappingRef("shop", "orders", "0a1b2c3d-1")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beat(renewed: str, identity: str = "a", blocked: int = 0) -> Body:
    body = lease(REF, Heartbeat(identity, 1, shards_blocked=blocked), renewed)
    body["metadata"]["uid"] = f"uid of {identity}"
    return body


def test_a_heartbeat_counts_for_its_term_after_it_last_changed() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.saw(REF.key, beat("1"))
    clock.now += TERM - 0.1
    assert len(liveness.alive(REF.key, [beat("1")])) == 1
    clock.now += 0.2
    assert liveness.alive(REF.key, [beat("1")]) == []


def test_the_clock_of_the_poller_does_not_matter() -> None:
    liveness = Liveness(Clock())
    assert len(liveness.alive(REF.key, [beat("1970-01-01T00:00:00Z")])) == 1


def test_a_renewal_that_is_only_read_later_counts() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.saw(REF.key, beat("1"))
    clock.now += TERM + 1
    assert len(liveness.alive(REF.key, [beat("2")])) == 1


def test_a_renewal_alone_is_no_news_but_a_report_or_a_return_is() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    assert liveness.saw(REF.key, beat("1"))
    assert not liveness.saw(REF.key, beat("2"))
    assert liveness.saw(REF.key, beat("3", blocked=1))
    clock.now += TERM + 1
    assert liveness.saw(REF.key, beat("4", blocked=1))


def test_the_end_of_a_heartbeat_is_found_once() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.saw(REF.key, beat("1"))
    before = clock.now
    clock.now += TERM
    assert liveness.expired(before) == {REF.key}
    assert liveness.expired(clock.now) == set()


def test_a_deleted_heartbeat_is_forgotten() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.saw(REF.key, beat("1"))
    assert liveness.forget(beat("1"))
    clock.now += TERM
    assert liveness.expired(100.0) == set()


def test_a_report_survives_the_way_through_the_lease() -> None:
    condition = ReportedCondition("SourceReachable", "False", "NotFound", "no such stream")
    told = Heartbeat("a", 3, (condition,), "OK", 4, 8, 1)
    assert heartbeat_of(lease(REF, told, "1")) == told


def test_a_report_nobody_can_read_still_says_that_somebody_is_alive() -> None:
    body = beat("1")
    body["metadata"]["annotations"] = {"headrace.dev/report": "{"}
    assert heartbeat_of(body) == Heartbeat("a", 0)
    del body["metadata"]["annotations"]
    assert heartbeat_of(body) == Heartbeat("a", 0)
