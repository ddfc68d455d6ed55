"""How pollers divide the calls of a queue (design decision 43); in every order of events: tests/model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.stream.queues.claims import BACKLOG_KEPT, Claims
from headrace.stream.queues.shares import Peer, Share, equal_share, seen

B, C = Peer("b", 0), Peer("c", 0)


def settled(total: int, *peers: Peer) -> Share:
    return Share("a").of(total).claiming(peers, leaving=False).confirmed(peers)


@pytest.mark.parametrize("total", [0, 1, 2, 3, 7, 10, 1250])
@pytest.mark.parametrize("members", ["a", "ab", "bca", "zyxab"])
def test_shares_are_equal_but_for_one_and_add_up_to_the_total(total: int, members: str) -> None:
    shares = {one: equal_share(total, one, set(members) - {one}) for one in members}
    assert sum(shares.values()) == total
    assert max(shares.values()) - min(shares.values()) <= 1
    assert [shares[one] for one in sorted(members)] == sorted(shares.values(), reverse=True), "the first have more"


def test_a_poller_that_was_asked_for_nothing_claims_nothing_and_may_use_nothing() -> None:
    share = Share("a").claiming([], leaving=False).confirmed([])
    assert (share.claims, share.usable) == (None, 0)


def test_one_that_is_alone_has_it_all_once_its_claim_was_read() -> None:
    claiming = Share("a").of(10).claiming([], leaving=False)
    assert (claiming.claims, claiming.usable) == (10, 0)
    assert claiming.confirmed([]).usable == 10


def test_only_pollers_that_ask_and_stay_are_counted() -> None:
    peers = [Peer("b", None), Peer("c", 0, draining=True), Peer("d", 0, gone=1.0)]
    assert settled(10, *peers).usable == 10


def test_a_raised_claim_is_used_as_far_as_it_fits_beside_the_others() -> None:
    assert settled(10, replace(B, claims=10)).usable == 0
    assert settled(10, replace(B, claims=8)).usable == 2
    assert settled(10, replace(B, claims=5)).usable == 5
    assert settled(10, replace(B, claims=40)).usable == 0


def test_a_lowered_claim_holds_at_once_and_tells_what_is_in_flight() -> None:
    busy = replace(settled(10), in_flight=9)
    lower = busy.claiming([B], leaving=False)
    assert (lower.wanted, lower.told, lower.usable) == (5, 9, 5)
    assert replace(lower, in_flight=3).claiming([B], leaving=False).told == 5


def test_what_was_usable_stays_so_whoever_claims_too_much() -> None:
    assert settled(10, B).confirmed([replace(B, claims=100)]).usable == 5


def test_one_that_leaves_wants_nothing_and_claims_what_is_in_flight() -> None:
    leaving = replace(settled(10), in_flight=4).claiming([], leaving=True)
    assert (leaving.wanted, leaving.told, leaving.usable) == (0, 4, 0)


def test_a_smaller_total_holds_at_once() -> None:
    assert settled(10).of(4).usable == 4


def test_a_life_that_knows_nobody_yet_wins_its_share_from_nothing_beside_what_is_still_in_flight() -> None:
    claims = Claims(replace(settled(10), in_flight=7))
    claims.lapse()
    assert (claims.compose(leaving=False), claims.share.usable) == (7, 0)
    claims.written()
    assert claims.read([replace(B, claims=5)], (), 0.0, leaving=False), "it has a claim to tell"
    assert claims.share.usable == 0
    assert claims.compose(leaving=False) == 7
    claims.written()
    assert not claims.read([replace(B, claims=5)], (), 0.0, leaving=False)
    assert claims.share.usable == 5


def test_what_was_read_before_a_claim_was_written_raises_nothing() -> None:
    claims = Claims(Share("a").of(10))
    claims.read([], (), 0.0, leaving=False)
    claims.compose(leaving=False)
    claims.read([], (), 1.0, leaving=False)
    assert claims.share.usable == 0
    claims.written()
    claims.read([], (), 2.0, leaving=False)
    assert claims.share.usable == 10


def test_who_is_found_dead_claims_nothing_though_its_heartbeat_lies_there() -> None:
    claims = Claims(settled(10, B), (replace(B, claims=5),))
    claims.read([], {"b"}, 1.0, leaving=False)
    assert claims.peers == ()


def test_calls_that_end_are_told_when_the_last_of_those_that_are_too_many_has_ended() -> None:
    claims = Claims(replace(settled(10), in_flight=9), _knows=True)
    claims.peers = (B,)
    claims.compose(leaving=False)
    assert [claims.report_calls(calls) for calls in (8, 6, 5, 4)] == [False, False, True, True]
    claims.compose(leaving=False)
    assert not claims.report_calls(3)


def test_of_backlogs_the_largest_of_the_last_minutes_is_told() -> None:
    claims = Claims(Share("a"))
    assert claims.backlog(0.0) is None
    for when, backlog in enumerate((5, 9, 3, 4, 2)):
        claims.report_backlog(backlog, float(when))
    told = [claims.backlog(when) for when in (4.0, BACKLOG_KEPT + 1, BACKLOG_KEPT + 3.5, BACKLOG_KEPT + 5)]
    assert told == [9, 9, 2, None]


def test_a_heartbeat_that_is_missed_claims_for_a_term_on_and_is_nobodys_after_it() -> None:
    before = (replace(B, claims=5), C)
    once = seen(before, [C], 10.0, 6.0)
    assert once == (C, Peer("b", 5, gone=10.0))
    assert seen(once, [C], 15.9, 6.0) == once
    assert seen(once, [C], 16.0, 6.0) == (C,)
    assert seen(once, [B, C], 12.0, 6.0) == (B, C), "it is there again"
