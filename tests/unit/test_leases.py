"""Every rule of who may hold which shard, one by one; the model walks them together (tests/model)."""

from __future__ import annotations

import math

import pytest

from headrace.heartbeat import RENEW_INTERVAL, TERM
from headrace.records import Holder
from headrace.stream.leases import (
    LINGER,
    MARGIN,
    Beat,
    Claim,
    Moves,
    View,
    decide,
    falls_to,
    in_doubt,
    is_free,
    missed,
    noticed,
    observe,
)

A, B, C = Holder("a", "1"), Holder("b", "1"), Holder("c", "1")
LATER = TERM + 1.0


def seen(*beats: Beat) -> View:
    return observe(View(), beats, 0.0, 0.0)


def claims(**holders: Holder | None) -> list[Claim]:
    return [Claim(shard_id, holder) for shard_id, holder in holders.items()]


def test_a_clock_slower_by_a_fifth_still_stops_before_others_take_over() -> None:
    assert (TERM - MARGIN) * 1.2 <= TERM


def test_a_poller_misses_two_renewals_before_it_is_in_doubt() -> None:
    assert 2 * RENEW_INTERVAL < TERM - MARGIN


@pytest.mark.parametrize(("now", "doubt"), [(4.99, False), (5.0, True), (6.0, True)])
def test_a_holder_is_in_doubt_a_margin_before_its_term_counted_from_the_sending(now: float, doubt: bool) -> None:
    assert in_doubt(10.0, 10.0 + now) is doubt


def test_a_life_expires_at_a_read_begun_a_term_after_its_last_change_was_seen() -> None:
    view = observe(View(), [Beat(B, "r1")], 0.0, 1.0)
    assert not observe(view, [Beat(B, "r1")], 6.9, 7.5).expired(B)
    assert observe(view, [Beat(B, "r1")], 7.0, 7.0).expired(B)


def test_another_renewal_begins_the_term_anew() -> None:
    view = observe(seen(Beat(B, "r1")), [Beat(B, "r2")], 5.0, 5.0)
    assert not observe(view, [Beat(B, "r2")], 10.9, 10.9).expired(B)
    assert observe(view, [Beat(B, "r2")], 11.0, 11.0).expired(B)


def test_a_failed_read_begins_the_term_of_everybody_anew() -> None:
    view = observe(missed(seen(Beat(B, "r1"))), [Beat(B, "r1")], LATER, LATER)
    assert not view.expired(B)
    assert not observe(view, [Beat(B, "r1")], LATER + 5.9, LATER + 5.9).expired(B)
    assert observe(view, [Beat(B, "r1")], LATER + 6, LATER + 6).expired(B)


def test_whoever_was_expired_is_not_while_reads_fail() -> None:
    view = observe(seen(Beat(B, "r1")), [Beat(B, "r1")], LATER, LATER)
    assert view.expired(B)
    assert not missed(view).expired(B)
    assert missed(view).living() == (Beat(B, "r1"),)


def test_a_failed_read_counts_for_a_life_whose_heartbeat_is_gone_too() -> None:
    view = observe(missed(noticed(View(), [B], 0.0)), [], 10.0, 10.0)
    assert not observe(view, [], 15.9, 15.9).expired(B)
    assert observe(view, [], 16.0, 16.0).expired(B)


def test_a_life_that_only_a_lease_names_gets_a_term() -> None:
    view = noticed(seen(), [B], 1.0)
    assert not observe(view, [], 6.9, 6.9).expired(B)
    assert observe(view, [], 7.0, 7.0).expired(B)


def test_reading_the_leases_again_prolongs_nothing() -> None:
    view = noticed(noticed(seen(), [B], 1.0), [B], 5.0)
    assert observe(view, [], 7.0, 7.0).expired(B)


def test_reading_the_leases_changes_nothing_about_who_is_dead() -> None:
    view = observe(seen(Beat(B, "r1")), [Beat(B, "r1")], LATER, LATER)
    assert noticed(view, [B, C], LATER).dead() == {B}
    assert noticed(missed(view), [B, C], 2 * LATER).dead() == set()


def test_a_life_that_neither_a_lease_nor_a_heartbeat_names_is_forgotten() -> None:
    assert noticed(noticed(seen(Beat(A, "r")), [B], 0.0), [], 1.0).sightings.keys() == {A}


def test_nobody_is_expired_who_was_never_seen() -> None:
    assert not seen().expired(B)


def test_a_former_life_expires_though_its_poller_beats_as_another() -> None:
    view = seen(Beat(B, "r1"))
    again = Holder("b", "2")
    view = observe(view, [Beat(again, "r2")], LATER, LATER)
    assert view.expired(B)
    assert not view.expired(again)


def test_a_heartbeat_without_an_incarnation_stands_for_every_life() -> None:
    view = noticed(seen(Beat(Holder("b", ""), "r1")), [B], 0.0)
    view = observe(view, [Beat(Holder("b", ""), "r2")], LATER, LATER)
    assert not view.expired(B)
    assert observe(view, [Beat(Holder("b", ""), "r2")], 2 * LATER, 2 * LATER).expired(B)


def test_the_next_expiry_is_the_first_that_the_last_read_could_not_find() -> None:
    view = observe(seen(Beat(A, "r1"), Beat(B, "r1")), [Beat(A, "r1"), Beat(B, "r2")], 2.0, 2.0)
    assert view.next_expiry() == TERM
    view = observe(view, [Beat(A, "r1"), Beat(B, "r2")], TERM, TERM)
    assert view.expired(A)
    assert view.next_expiry() == 2.0 + TERM
    assert missed(view).next_expiry() == math.inf


def test_living_are_those_that_are_not_expired() -> None:
    view = observe(seen(Beat(A, "r1"), Beat(B, "r1")), [Beat(A, "r1"), Beat(B, "r2")], LATER, LATER)
    assert [beat.holder for beat in view.living()] == [B]


def test_the_dead_are_the_expired_those_that_only_leases_name_among_them() -> None:
    view = noticed(seen(Beat(A, "r1"), Beat(B, "r1")), [C], 0.0)
    view = observe(view, [Beat(A, "r2"), Beat(B, "r1")], LATER, LATER)
    assert view.dead() == {B, C}
    assert missed(view).dead() == set()


def test_free_is_what_nobody_holds_ones_own_of_a_former_life_and_that_of_the_dead() -> None:
    view = observe(seen(Beat(B, "r1"), Beat(C, "r1")), [Beat(B, "r2"), Beat(C, "r1")], LATER, LATER)
    former = Holder("a", "0")
    assert [is_free(A, view, one) for one in (None, former, B, C)] == [True, True, False, True]
    assert not is_free(A, View(), B), "nobody has looked whether it lives"


def test_alone_a_poller_takes_every_free_shard() -> None:
    moves = decide(A, seen(), claims(s1=None, s2=None, s3=None), [])
    assert sorted(moves.take) == ["s1", "s2", "s3"]
    assert not moves.settled


def test_free_shards_are_taken_up_to_the_share_rounded_up() -> None:
    view = seen(Beat(B, "r"))
    assert len(decide(A, view, claims(s1=None, s2=None, s3=None), []).take) == 2
    assert len(decide(A, view, claims(s1=A, s2=None, s3=None), ["s1"]).take) == 1


def test_a_shard_of_somebody_alive_is_not_free_and_one_of_the_dead_is() -> None:
    view = seen(Beat(B, "r"))
    assert decide(A, view, claims(s1=B), []) == Moves()
    dead = observe(view, [Beat(B, "r")], LATER, LATER)
    assert decide(A, dead, claims(s1=B), []).take == ("s1",)


def test_what_a_dead_life_left_is_taken_beyond_the_share_once_nobody_came_for_it() -> None:
    """The one that has room may be so new that it gives the dead a term of its own."""
    held = claims(s1=A, s2=B, s3=None)

    def at(later: float) -> View:
        return observe(seen(Beat(B, "r"), Beat(C, "r1")), [Beat(B, "r"), Beat(C, "r2")], later, later)

    assert decide(A, at(TERM + LINGER - 0.1), held, ["s1"], asked="s3").take == ("s3",)
    assert decide(A, at(TERM + LINGER - 0.1), claims(s1=A, s2=B), ["s1"]).take == ()
    assert decide(A, at(TERM + LINGER), claims(s1=A, s2=B), ["s1"]).take == ("s2",)
    assert sorted(decide(A, at(TERM + LINGER), held, ["s1"]).take) == ["s2"]


def test_what_a_dead_poller_had_asked_for_is_taken_beyond_the_share_once_nobody_came_for_it() -> None:
    """The one that has room may be so new that it leaves the shard to the dead for a term of its own."""
    held = claims(s1=A, s2=None)

    def at(later: float, asks: str | None = None) -> View:
        return observe(
            seen(Beat(B, "r", asks="s2"), Beat(C, "r1")),
            [Beat(B, "r", asks="s2"), Beat(C, "r2", asks=asks)],
            later,
            later,
        )

    assert decide(A, at(TERM + LINGER - 0.1), held, ["s1"]).take == ()
    assert decide(A, at(TERM + LINGER), held, ["s1"]).take == ("s2",)
    assert decide(A, at(TERM + LINGER, asks="s2"), held, ["s1"]).take == (), "somebody alive has asked for it too"
    assert decide(A, at(TERM + LINGER), claims(s1=A, s3=None), ["s1"]).take == (), "nobody had asked for that one"


def test_a_poller_takes_all_of_its_former_life_at_once_over_its_share_too() -> None:
    old = Holder("a", "0")
    moves = decide(A, seen(Beat(B, "r")), claims(s1=old, s2=old, s3=None), [])
    assert sorted(moves.take) == ["s1", "s2"]


def test_a_free_shard_that_another_asked_for_is_left_to_it() -> None:
    asked = seen(Beat(B, "r", asks="s1"))
    assert decide(A, asked, claims(s1=None, s2=None), []).take == ("s2",)
    expired = observe(asked, [Beat(B, "r", asks="s1")], LATER, LATER)
    assert sorted(decide(A, expired, claims(s1=None, s2=None), []).take) == ["s1", "s2"]


def test_a_shard_stays_asked_for_until_it_came() -> None:
    view = seen(Beat(B, "r"))
    moves = decide(A, view, claims(s1=None, s2=B), [], asked="s1")
    assert (moves.take, moves.ask) == (("s1",), "s1")
    assert decide(A, view, claims(s1=A, s2=B), ["s1"], asked="s1").ask is None


def test_two_that_asked_for_the_same_shard_do_not_leave_it_to_each_other() -> None:
    view = seen(Beat(B, "r", asks="s1"))
    assert decide(A, view, claims(s1=None), [], asked="s1").take == ("s1",)


def test_the_most_loaded_is_asked_for_one_shard() -> None:
    view = seen(Beat(B, "r"), Beat(C, "r"))
    moves = decide(A, view, claims(s1=B, s2=B, s3=B, s4=C, s5=C), [])
    assert moves.ask in {"s1", "s2", "s3"}
    assert not moves.settled


def test_asked_is_who_has_two_more_and_no_less() -> None:
    view = seen(Beat(B, "r"))
    assert decide(A, view, claims(s1=B, s2=B), []).ask in {"s1", "s2"}
    assert decide(A, view, claims(s1=B), []).ask is None


def test_whoever_has_its_share_asks_for_nothing_though_another_has_two_more() -> None:
    view = seen(Beat(B, "r"), Beat(C, "r"))
    held = claims(s1=A, s2=A, s3=B, s4=B, s5=B, s6=B)
    assert decide(A, view, held, ["s1", "s2"]).ask is None
    assert decide(C, seen(Beat(A, "r"), Beat(B, "r")), held, []).ask in {"s3", "s4", "s5", "s6"}


def test_what_is_taken_counts_before_anything_is_asked_for() -> None:
    moves = decide(A, seen(Beat(B, "r")), claims(s1=None, s2=None, s3=B, s4=B), [])
    assert (sorted(moves.take), moves.ask) == (["s1", "s2"], None)


def test_pollers_do_not_all_ask_for_the_same_shard() -> None:
    held = [Claim(f"s{number}", B) for number in range(10)]
    pollers = [Holder(f"p{number}", "1") for number in range(10)]
    assert len({decide(one, seen(Beat(B, "r")), held, []).ask for one in pollers}) > 3


def test_nobody_is_asked_when_that_would_only_turn_the_difference_round() -> None:
    view = seen(Beat(B, "r"))
    assert decide(A, view, claims(s1=A, s2=B, s3=B), ["s1"]) == Moves()


def test_the_same_shard_is_asked_for_until_asking_has_no_sense() -> None:
    view = seen(Beat(B, "r"))
    held = claims(s1=B, s2=B, s3=B)
    for asked in ("s1", "s2", "s3"):
        assert decide(A, view, held, [], asked=asked).ask == asked
    assert decide(A, view, claims(s1=A, s2=B, s3=B), ["s1"], asked="s2").ask is None


def test_a_shard_is_given_to_who_has_two_less_and_asks_for_it() -> None:
    asking = seen(Beat(B, "r", asks="s1"))
    assert decide(A, asking, claims(s1=A, s2=A), ["s1", "s2"]).give == ("s1",)
    assert decide(A, asking, claims(s1=A, s2=B), ["s1"]).give == ()
    assert decide(A, asking, claims(s1=A, s2=A, s3=B), ["s1", "s2"]).give == ()


def test_one_shard_is_given_at_a_time() -> None:
    asking = seen(Beat(B, "r", asks="s1"))
    moves = decide(A, asking, claims(s1=A, s2=A, s3=A), ["s1", "s2", "s3"], ["s2"])
    assert moves.give == ()
    assert not moves.settled


def test_the_least_loaded_who_asks_is_given_to_first() -> None:
    asking = seen(Beat(B, "r", asks="s1"), Beat(C, "r", asks="s2"))
    held = claims(s1=A, s2=A, s3=A, s4=B)
    assert decide(A, asking, held, ["s1", "s2", "s3"]).give == ("s2",)


def test_nothing_is_given_to_the_expired_or_the_draining() -> None:
    asking = seen(Beat(B, "r", asks="s1"))
    expired = observe(asking, asking.beats, LATER, LATER)
    assert decide(A, expired, claims(s1=A, s2=A), ["s1", "s2"]).give == ()
    draining = seen(Beat(B, "r", asks="s1", draining=True))
    assert decide(A, draining, claims(s1=A, s2=A), ["s1", "s2"]).give == ()


def test_draining_everything_is_left_and_nothing_taken() -> None:
    moves = decide(A, seen(), claims(s1=A, s2=A, s3=None), ["s1", "s2"], ["s1"], draining=True)
    assert moves == Moves(give=("s2",), settled=False)
    assert decide(A, seen(), claims(s1=None), [], draining=True) == Moves()


def test_who_drains_counts_for_no_share_and_leaves_nothing_settled() -> None:
    view = seen(Beat(B, "r", draining=True))
    assert len(decide(A, view, claims(s1=None, s2=None), []).take) == 2
    assert not decide(A, view, claims(s1=A), ["s1"]).settled


def test_a_missing_lease_falls_to_exactly_one_of_the_living_and_all_get_some() -> None:
    view = seen(Beat(A, "r"), Beat(B, "r"), Beat(C, "r", draining=True))
    made = {one: [shard for shard in map(str, range(40)) if falls_to(one, view, shard)] for one in (A, B)}
    assert sorted(made[A] + made[B], key=int) == [str(number) for number in range(40)]
    assert min(len(made[A]), len(made[B])) > 5


def test_alone_every_missing_lease_is_ones_own() -> None:
    assert falls_to(A, View(), "0")
    assert falls_to(A, observe(seen(Beat(B, "r")), [Beat(B, "r")], LATER, LATER), "0")
