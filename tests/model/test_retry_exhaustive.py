"""Every sequence of outcomes, for batches of up to five records and every policy, walked to its end.

Two proofs over the same walk: invariants that must hold in every state, and an oracle (`tests/support/oracle.py`).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.stream.retry import RetryPolicy
from tests.support.oracle import POLICIES, Oracle, play, scripts
from tests.support.records import record, records


@pytest.mark.parametrize("apart", [0.0, 12.0], ids=["arrived together", "arrived apart"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_every_walk_is_sound_and_agrees_with_the_oracle(size: int, apart: float) -> None:
    batch = tuple(record(number, arrival=(number - 1) * apart) for number in range(1, size + 1))
    length = {1: 5, 2: 4, 3: 4, 4: 3, 5: 3}[size]
    walks = 0
    for policy in POLICIES:
        for script in scripts(length, 3 + size):
            assert play(batch, policy, script) == Oracle(policy, script).run(batch), (policy, script)
            walks += 1
    assert walks == len(POLICIES) * (3 + size) ** length


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_destination_that_refuses_holds_the_batch_or_loses_it_as_the_policy_says(policy: RetryPolicy) -> None:
    policy = replace(policy, maximum_age=None)
    if policy.maximum_retries is None or not policy.has_destination:
        policy = replace(policy, maximum_retries=0, has_destination=True)
    always_failing = (1,) * 12
    for refusals in range(1, 25):
        trace = play(records(1, 2, arrival=0.0), policy, always_failing, refusals)
        if policy.delivery_patience is None:
            assert trace.dropped == []
    if policy.delivery_patience is not None:
        assert trace.dropped, "a destination that never answers must be given up"
