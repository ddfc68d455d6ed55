"""The store of leases on an API server, real and in memory, and on a DynamoDB table: compare-and-swap, hand-over, edits by others, deletion."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio

from headrace.cluster import Cluster, ClusterError
from headrace.errors import LeaseLost, Reason, StoreError
from headrace.records import Checkpoint, Holder, Lease, Shard, Start, Window
from headrace.resources import EVENT_SOURCE_MAPPING, SHARD_LEASE, WINDOW_STATE, MappingRef, ref_of
from headrace.stream.progress import ShardFacts
from headrace.stream.stores import table_rows, window_states
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import AGE_INTERVAL, KubernetesStore
from tests.support import aws, clusters, tables
from tests.support.fake_cluster import FakeCluster, merged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Body
    from headrace.resources import Kind
    from headrace.stream.stores import Objects

SHARDS = (Shard("shardId-000000000000"), Shard("shardId-000000000001"))
FIRST = SHARDS[0].shard_id


class Flaky:
    """A cluster whose next replacements are answered badly: lost before or after they were carried out, late, or never."""

    def __init__(self, inner: Objects) -> None:
        self._inner = inner
        self.lose: list[str | asyncio.Event] = []
        self.replaced = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def replace(self, kind: Kind, body: Body) -> Body:
        self.replaced += 1
        fault = self.lose.pop(0) if self.lose else ""
        if fault == "request":
            raise ClusterError("timed out")
        if isinstance(fault, asyncio.Event):
            await fault.wait()
        if fault == "hang":
            await asyncio.Event().wait()
        answer = await self._inner.replace(kind, body)
        if fault == "answer":
            raise ClusterError("timed out")
        return answer


class Bench:
    """One mapping on the API server, and stores of it."""

    def __init__(self, api: Objects, mapping: MappingRef, piece: int = window_states.PIECE) -> None:
        self.api: Any = Flaky(api)
        self.piece = piece
        self.mapping = mapping
        self.source = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
        self.now = 1_700_000_000.0

    def store(self, incarnation: str = "1", identity: str = "pod-a", start: Start | None = None) -> KubernetesStore:
        holder = Holder(identity, incarnation)
        return KubernetesStore(self.api, self.mapping, self.source, start, holder, lambda: self.now, self.piece)

    async def loaded(self, incarnation: str = "1", identity: str = "pod-a") -> KubernetesStore:
        store = self.store(incarnation, identity)
        await taken(store)
        return store

    async def lease(self, shard_id: str = FIRST) -> Body:
        name = self.mapping.shard_lease_name(self.source, shard_id)
        body = await self.api.find(SHARD_LEASE, self.mapping.namespace, name)
        assert isinstance(body, dict)
        return body

    async def status(self, shard_id: str = FIRST) -> Body:
        status: Body = (await self.lease(shard_id))["status"]
        return status


async def taken(store: KubernetesStore, shards: tuple[Shard, ...] = SHARDS) -> dict[str, Checkpoint | None]:
    """Takes every shard that is not finished; gives all checkpoints but empty ones."""
    leases = await store.load(shards)
    found = {
        name: lease.checkpoint if lease.checkpoint.finished else await store.take(name)
        for name, lease in leases.items()
    }
    return {name: checkpoint for name, checkpoint in found.items() if checkpoint != Checkpoint()}


class Table(DynamoDBTable):
    """A table, with the edits that a test makes by hand."""

    async def merge(self, kind: Kind, _namespace: str, name: str, patch: Body, _: str | None = None) -> None:
        key = table_rows.key(self._mapping.uid, kind, name)
        row = (await self._call("get_item", Key=key, ConsistentRead=True))["Item"]
        own = orjson.dumps(merged(orjson.loads(row["body"]["S"]), patch)).decode()
        version = {"N": str(int(row["version"]["N"]) + 1)}
        await self._call("put_item", Item=row | {"body": {"S": own}, "version": version})


@pytest_asyncio.fixture(params=["memory", "table", pytest.param("server", marks=pytest.mark.cluster)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        if request.param == "table":
            table, access = await stack.enter_async_context(tables.table(request.getfixturevalue("ministack")))
            ref = MappingRef("shop", "orders", str(uuid.uuid4()))
            objects = Table(table, ref, access, aws.REGION)
            stack.push_async_callback(objects.aclose)
            yield Bench(objects, ref, PIECE)
            return
        api: Cluster = FakeCluster()
        namespace = "shop"
        if request.param == "server":
            api = await stack.enter_async_context(clusters.cluster())
            namespace = await stack.enter_async_context(clusters.namespace(api))
        mapping = await api.create(EVENT_SOURCE_MAPPING, clusters.mapping(namespace, "orders"))
        yield Bench(api, ref_of(mapping))


async def test_a_first_load_makes_a_lease_per_shard_owned_by_the_mapping_and_held_by_nobody(bench: Bench) -> None:
    assert await bench.store().load(SHARDS) == {shard.shard_id: Lease(shard) for shard in SHARDS}
    assert (await bench.status())["state"] == "Available"
    assert "holder" not in await bench.status()
    await taken(bench.store())
    for shard in SHARDS:
        lease = await bench.lease(shard.shard_id)
        assert lease["spec"]["shardId"] == shard.shard_id
        assert [owner["uid"] for owner in lease["metadata"]["ownerReferences"]] == [bench.mapping.uid]
        assert (lease["status"]["holder"], lease["status"]["state"]) == ("pod-a", "Held")


async def test_what_was_saved_is_loaded_by_the_next_holder(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("495"))
    await store.save(SHARDS[1].shard_id, Checkpoint("7", finished=True))
    found = await taken(bench.store("2", "pod-b"))
    assert found == {FIRST: Checkpoint("495"), SHARDS[1].shard_id: Checkpoint("7", finished=True)}


def window(state: bytes) -> Window:
    return Window(60, 120, "7", state)


async def states(bench: Bench) -> list[str]:
    found = await bench.api.select(WINDOW_STATE, bench.mapping.namespace, bench.mapping.selector)
    return [body["metadata"]["name"] for body in found]


async def test_a_window_lies_in_pieces_beside_its_checkpoint_and_the_next_holder_loads_it(bench: Bench) -> None:
    store = await bench.loaded()
    large = orjson.dumps({"held": random.Random(1).randbytes(1_000_000).hex()})
    await store.save(FIRST, Checkpoint("1", window=window(b'{"n":1}')))
    await store.save(FIRST, Checkpoint("2", window=window(large)))
    assert len(await states(bench)) > 1
    assert (await taken(bench.store("2", "pod-b")))[FIRST] == Checkpoint("2", window=window(large))


async def test_only_the_newest_state_is_kept_and_none_after_the_window(bench: Bench) -> None:
    for life in range(3):
        store = await bench.loaded(str(life))
        for number in range(1, 4):
            await store.save(FIRST, Checkpoint(str(10 * life + number), window=window(b'{"n":%d}' % number)))
        assert len(await states(bench)) == 1
    await store.save(FIRST, Checkpoint("99"))
    assert await states(bench) == []
    assert (await taken(store))[FIRST] == Checkpoint("99")


async def test_a_poller_that_has_lost_its_shard_spoils_no_state(bench: Bench) -> None:
    old = await bench.loaded("1")
    await old.save(FIRST, Checkpoint("1", window=window(b'{"n":1}')))
    new = await bench.loaded("2")
    await new.save(FIRST, Checkpoint("2", window=window(b'{"n":2}')))
    with pytest.raises(LeaseLost):
        await old.save(FIRST, Checkpoint("3", window=window(b'{"n":3}')))
    assert (await taken(bench.store("3")))[FIRST] == Checkpoint("2", window=window(b'{"n":2}'))


async def test_a_state_that_was_taken_away_is_told_with_what_to_do(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("1", window=window(b'{"n":1}')))
    for body in await bench.api.select(WINDOW_STATE, bench.mapping.namespace, bench.mapping.selector):
        await bench.api.delete(WINDOW_STATE, body)
    with pytest.raises(StoreError, match=r"take status\.window away from the ShardLease"):
        await taken(bench.store("2"))


async def test_a_predecessor_has_lost_its_lease_once_a_successor_has_taken_it(bench: Bench) -> None:
    old = await bench.loaded("1")
    await old.save(FIRST, Checkpoint("1"))
    new = await bench.loaded("2")
    with pytest.raises(LeaseLost):
        await old.save(FIRST, Checkpoint("2"))
    await new.save(FIRST, Checkpoint("3"))
    assert (await bench.status())["sequenceNumber"] == "3"


async def test_a_checkpoint_never_goes_back_and_is_compared_as_a_number(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("10"))
    await store.save(FIRST, Checkpoint("9"))
    assert (await bench.status())["sequenceNumber"] == "10"


async def edit(bench: Bench, **status: Any) -> None:
    name = bench.mapping.shard_lease_name(bench.source, FIRST)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"status": status})


async def test_a_lease_that_somebody_broke_costs_its_shard_only_and_is_taken_once_it_is_mended(bench: Bench) -> None:
    await (await bench.loaded()).save(FIRST, Checkpoint("5"))
    await edit(bench, lanes=[{"factor": 1, "index": 1}])
    store = bench.store("2")
    leases = await store.load(SHARDS)
    assert bench.mapping.shard_lease_name(bench.source, FIRST) in (leases[FIRST].fault or "")
    assert "status.lanes: index must be below factor" in (leases[FIRST].fault or "")
    assert await store.take(SHARDS[1].shard_id) == Checkpoint()
    await edit(bench, lanes=None)
    assert (await taken(store))[FIRST] == Checkpoint("5")


async def test_a_lease_that_breaks_under_its_holder_is_written_once_it_is_mended(bench: Bench) -> None:
    store = await bench.loaded()
    await edit(bench, lanes=[{"factor": 1, "index": 1}])
    with pytest.raises(StoreError) as error:
        await store.save(FIRST, Checkpoint("5"))
    assert error.value.reason is Reason.LEASE_BROKEN
    await store.save(SHARDS[1].shard_id, Checkpoint("7"))
    assert (await store.load(SHARDS))[FIRST].holder == Holder("pod-a", "1")
    await edit(bench, lanes=None)
    await store.save(FIRST, Checkpoint("5"))
    assert (await bench.status())["sequenceNumber"] == "5"


async def test_a_broken_lease_is_lost_after_a_gap_and_the_others_are_won_anew(bench: Bench) -> None:
    store = await bench.loaded()
    await edit(bench, lanes=[{"factor": 1, "index": 1}])
    assert await store.regain(Holder("pod-a", "2")) == {FIRST: None}
    await store.save(SHARDS[1].shard_id, Checkpoint("7"))


@pytest.mark.cluster
@pytest.mark.parametrize("bench", ["server"], indirect=True)
@pytest.mark.parametrize(
    "status", [{"sequenceNumber": "4x"}, {"sequenceNumber": 4}, {"finished": "no"}, {"lanes": [{}]}]
)
async def test_an_api_server_refuses_an_edit_that_leaves_no_checkpoint(bench: Bench, status: Body) -> None:
    await bench.loaded()
    with pytest.raises(ClusterError) as error:
        await edit(bench, **status)
    assert error.value.status == 422


async def test_an_edit_by_others_is_neither_lost_nor_a_lost_lease(bench: Bench) -> None:
    store = await bench.loaded()
    name = bench.mapping.shard_lease_name(bench.source, FIRST)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"metadata": {"labels": {"team": "x"}}})
    await store.save(FIRST, Checkpoint("5"))
    lease = await bench.lease()
    assert lease["metadata"]["labels"]["team"] == "x"
    assert lease["status"]["sequenceNumber"] == "5"


async def test_a_checkpoint_put_forward_by_hand_is_kept(bench: Bench) -> None:
    store = await bench.loaded()
    name = bench.mapping.shard_lease_name(bench.source, FIRST)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"status": {"sequenceNumber": "100"}})
    await store.save(FIRST, Checkpoint("5"))
    assert (await bench.status())["sequenceNumber"] == "100"


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_write_without_an_answer_is_repeated_on_what_is_read_again(bench: Bench, lost: str) -> None:
    store = await bench.loaded()
    bench.api.lose = [lost]
    await store.save(FIRST, Checkpoint("5"))
    assert (await bench.status())["sequenceNumber"] == "5"
    await store.save(FIRST, Checkpoint("6"))
    assert (await bench.status())["sequenceNumber"] == "6"


async def test_a_server_that_never_answers_is_a_store_error(bench: Bench) -> None:
    store = await bench.loaded()
    bench.api.lose = ["request"] * 10
    with pytest.raises(StoreError):
        await store.save(FIRST, Checkpoint("5"))


async def test_a_deleted_lease_is_lost(bench: Bench) -> None:
    store = await bench.loaded()
    await bench.api.delete(SHARD_LEASE, await bench.lease())
    with pytest.raises(LeaseLost):
        await store.save(FIRST, Checkpoint("5"))


async def test_a_lease_made_anew_after_its_deletion_is_not_the_one_that_was_held(bench: Bench) -> None:
    store = await bench.loaded()
    await bench.api.delete(SHARD_LEASE, await bench.lease())
    successor = await bench.loaded("1", "pod-b")
    with pytest.raises(LeaseLost):
        await store.save(FIRST, Checkpoint("5"))
    await successor.save(FIRST, Checkpoint("3"))
    status = await bench.status()
    assert (status["holder"], status["sequenceNumber"]) == ("pod-b", "3")


async def test_a_lease_made_anew_after_its_deletion_is_not_won_back_after_a_gap(bench: Bench) -> None:
    store = await bench.loaded()
    await bench.api.delete(SHARD_LEASE, await bench.lease())
    await bench.loaded("1", "pod-b")
    assert FIRST in await store.regain(Holder("pod-a", "2"))
    assert (await bench.status())["holder"] == "pod-b"


async def test_a_lease_whose_label_was_removed_is_found_by_its_name(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("5"))
    name = bench.mapping.shard_lease_name(bench.source, FIRST)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"metadata": {"labels": None}})
    assert await taken(bench.store("2")) == {FIRST: Checkpoint("5")}
    assert (await bench.lease())["metadata"]["labels"] == bench.mapping.labels


async def test_an_unlabelled_lease_does_not_cost_its_holder_the_shard(bench: Bench) -> None:
    store = await bench.loaded()
    name = bench.mapping.shard_lease_name(bench.source, FIRST)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"metadata": {"labels": None}})
    await store.load(SHARDS)
    await store.save(FIRST, Checkpoint("5"))
    assert (await bench.status())["sequenceNumber"] == "5"


async def test_facts_are_written_with_the_next_checkpoint(bench: Bench) -> None:
    store = await bench.loaded()
    await store.report_shard(FIRST, ShardFacts("Retrying", 2, "boom", 31.4))
    assert "attempts" not in await bench.status(), "a write has just been made"
    await store.save(FIRST, Checkpoint("5"))
    status = await bench.status()
    assert (status["state"], status["attempts"], status["lastError"], status["iteratorAgeSeconds"]) == (
        "Retrying",
        2,
        "boom",
        31,
    )


async def test_facts_are_written_alone_when_no_checkpoint_comes(bench: Bench) -> None:
    store = await bench.loaded()
    bench.now += 1.0
    await store.report_shard(FIRST, ShardFacts("Blocked", 2, "boom"))
    assert (await bench.status())["state"] == "Blocked"
    bench.now += 1.0
    await store.report_shard(FIRST, ShardFacts("Held"))
    status = await bench.status()
    assert status["state"] == "Held"
    assert "lastError" not in status


async def test_an_age_alone_is_not_written_often(bench: Bench) -> None:
    store = await bench.loaded()
    bench.now += 1.0
    await store.report_shard(FIRST, ShardFacts(iterator_age_seconds=1))
    before = bench.api.replaced
    for age in range(2, 2 + int(AGE_INTERVAL) - 1):
        bench.now += 1.0
        await store.report_shard(FIRST, ShardFacts(iterator_age_seconds=age))
    assert bench.api.replaced == before
    bench.now += 1.0
    await store.report_shard(FIRST, ShardFacts(iterator_age_seconds=99))
    assert (await bench.status())["iteratorAgeSeconds"] == 99


async def test_a_second_load_writes_nothing(bench: Bench) -> None:
    store = await bench.loaded()
    before = (await bench.lease())["metadata"]["resourceVersion"]
    await store.load(SHARDS)
    assert (await bench.lease())["metadata"]["resourceVersion"] == before


async def test_children_wait_until_their_parent_is_finished(bench: Bench) -> None:
    store = bench.store()
    shards = (SHARDS[0], Shard("child", parents=(FIRST,)))
    await store.load(shards)
    assert (await bench.status("child"))["state"] == "Waiting"
    await store.take(FIRST)
    await store.save(FIRST, Checkpoint("9", finished=True))
    assert (await bench.status())["state"] == "Finished"
    assert (await store.load(()))["child"].shard == shards[1]
    await store.take("child")
    assert (await bench.status("child"))["state"] == "Held"


async def test_a_lease_that_changed_since_it_was_read_is_not_taken(bench: Bench) -> None:
    first, second = bench.store("1", "pod-a"), bench.store("1", "pod-b")
    await first.load(SHARDS)
    await second.load(SHARDS)
    assert await first.take(FIRST) == Checkpoint()
    assert await second.take(FIRST) is None
    assert (await second.load(SHARDS))[FIRST].holder == Holder("pod-a", "1")


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_whether_a_take_without_an_answer_was_carried_out_is_read_again(bench: Bench, lost: str) -> None:
    store = bench.store()
    await store.load(SHARDS)
    bench.api.lose = [lost]
    assert await store.take(FIRST) == (Checkpoint() if lost == "answer" else None)


async def test_after_a_gap_every_lease_is_won_anew_or_lost(bench: Bench) -> None:
    store = await bench.loaded("1")
    await store.save(FIRST, Checkpoint("5"))
    other = bench.store("1", "pod-b")
    await other.load(SHARDS)
    await other.take(SHARDS[1].shard_id)
    assert await store.regain(Holder("pod-a", "2")) == {SHARDS[1].shard_id: "pod-b"}
    assert (await store.load(SHARDS))[FIRST].holder == Holder("pod-a", "2")
    await store.save(FIRST, Checkpoint("6"))
    with pytest.raises(LeaseLost):
        await store.save(SHARDS[1].shard_id, Checkpoint("1"))


async def test_a_verdict_from_before_a_gap_takes_nothing_after_it(bench: Bench) -> None:
    store = await bench.loaded("1")
    late = bench.store("1", "pod-b")
    await late.load(SHARDS)
    await store.regain(Holder("pod-a", "2"))
    assert await late.take(FIRST) is None


async def test_a_gap_without_an_answer_is_told_and_finished_by_the_next_try(bench: Bench) -> None:
    store = await bench.loaded("1")
    bench.api.lose = ["request"] * 8
    with pytest.raises(StoreError):
        await store.regain(Holder("pod-a", "2"))
    bench.api.lose.clear()
    assert await store.regain(Holder("pod-a", "2")) == {}
    assert {lease.holder for lease in (await store.load(SHARDS)).values()} == {Holder("pod-a", "2")}


@pytest.mark.parametrize("lose", [["answer"], ["answer", "request", "request", "request"]])
async def test_what_was_won_anew_without_hearing_of_it_is_no_loss(bench: Bench, lose: list[str]) -> None:
    store = await bench.loaded("1")
    bench.api.lose = lose
    with suppress(StoreError):
        await store.regain(Holder("pod-a", "2"))
    await store.save(FIRST, Checkpoint("6"))
    assert await store.regain(Holder("pod-a", "3")) == {}
    await store.save(FIRST, Checkpoint("7"))
    assert (await store.load(SHARDS))[FIRST] == Lease(SHARDS[0], Checkpoint("7"), Holder("pod-a", "3"))


async def test_a_write_that_hangs_does_not_keep_its_lease_from_being_won_anew(bench: Bench) -> None:
    store = await bench.loaded("1")
    bench.api.lose = ["hang"]
    saving = asyncio.create_task(store.save(FIRST, Checkpoint("6")))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await store.regain(Holder("pod-a", "2")) == {}
    assert (await store.load(SHARDS))[FIRST].holder == Holder("pod-a", "2")
    saving.cancel()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_writes_and_two_gaps_at_once_end_in_the_newest_life_whatever_is_done_first(
    bench: Bench, order: tuple[int, ...]
) -> None:
    """One lease of four was edited by hand since it was read, another poller has taken one, one is being written."""
    shards = tuple(Shard(f"shardId-{number:012}") for number in range(4))
    first, _, edited, lost = (shard.shard_id for shard in shards)
    store, other = bench.store("1"), bench.store("1", "pod-b")
    await taken(store, shards)
    await other.load(shards)
    assert await other.take(lost) is not None
    name = bench.mapping.shard_lease_name(bench.source, edited)
    await bench.api.merge(SHARD_LEASE, bench.mapping.namespace, name, {"metadata": {"labels": {"seen": "yes"}}})

    doors = [asyncio.Event() for _ in range(3)]
    bench.api.lose = [doors[0], *[doors[1]] * 4, *[doors[2]] * 4]
    before, tasks = bench.api.replaced, []
    gaps = [store.regain(Holder("pod-a", life)) for life in "23"]
    for begun, sent in ((store.save(first, Checkpoint("6")), 1), (gaps[0], 5), (gaps[1], 9)):
        tasks.append(asyncio.ensure_future(begun))
        while bench.api.replaced < before + sent:
            await asyncio.sleep(0)
    for door in order:
        doors[door].set()
        await tasks[door]
    assert {shard_id for task in tasks[1:] for shard_id in task.result() or ()} == {lost}
    leases = await store.load(shards)
    mine = Holder("pod-a", "3")
    assert [leases[shard.shard_id].holder for shard in shards] == [mine, mine, mine, Holder("pod-b", "1")]
    assert leases[first].checkpoint == Checkpoint("6")
    await store.save(edited, Checkpoint("7"))
    with pytest.raises(LeaseLost):
        await store.save(lost, Checkpoint("7"))
    assert await store.regain(Holder("pod-a", "4")) == {}


async def test_what_was_lost_is_told_though_the_first_try_after_the_gap_failed_on_another_shard(bench: Bench) -> None:
    store = await bench.loaded("1")
    other = bench.store("1", "pod-b")
    await other.load(SHARDS)
    await other.take(FIRST)
    bench.api.lose = ["", *["request"] * 4]
    with pytest.raises(StoreError):
        await store.regain(Holder("pod-a", "2"))
    assert await store.regain(Holder("pod-a", "2")) == {FIRST: "pod-b"}
    assert await store.regain(Holder("pod-a", "3")) == {}


async def test_a_released_shard_is_free_and_cannot_be_saved_any_more(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("5"))
    await store.release(FIRST)
    assert (await store.load(SHARDS))[FIRST].holder is None
    with pytest.raises(LeaseLost):
        await store.save(FIRST, Checkpoint("6"))
    assert await store.take(FIRST) == Checkpoint("5")


async def test_releasing_what_another_has_taken_changes_nothing(bench: Bench) -> None:
    store = await bench.loaded("1")
    await bench.loaded("1", "pod-b")
    await store.release(FIRST)
    assert (await store.load(SHARDS))[FIRST].holder == Holder("pod-b", "1")


async def test_leases_of_a_stream_made_later_are_left_alone(bench: Bench) -> None:
    former, later = bench.store("1"), bench.store("1", "pod-b")
    await former.adopt(1000.5, Start())
    await later.adopt(2000.0, Start())
    await taken(later)
    await later.save(FIRST, Checkpoint("1"))
    assert FIRST not in await former.load(SHARDS)


async def test_closing_gives_the_leases_back(bench: Bench) -> None:
    store = await bench.loaded()
    await store.save(FIRST, Checkpoint("5"))
    await store.aclose()
    status = await bench.status()
    assert (status["state"], status["sequenceNumber"]) == ("Available", "5")
    assert "holder" not in status


async def test_the_start_follows_from_the_mapping(bench: Bench) -> None:
    latest = bench.store(start=Start(123.0))
    assert await latest.start() == Start(123.0)
    assert await latest.pin(Start(456.0)) == Start(123.0)
    oldest = bench.store()
    assert await oldest.start() is None
    assert await oldest.pin(Start()) == Start()


async def test_many_shards_are_loaded_with_their_checkpoints(bench: Bench) -> None:
    shards = tuple(Shard(f"shardId-{number:012}") for number in range(120))
    store = bench.store()
    await taken(store, shards)
    await store.save(shards[-1].shard_id, Checkpoint("5"))
    assert await taken(bench.store("2"), shards) == {shards[-1].shard_id: Checkpoint("5")}


async def test_another_streams_checkpoints_are_not_taken_for_this_ones(bench: Bench) -> None:
    """Both streams have a shard of the same id; only a server with CEL keeps the source from being changed."""
    first = await bench.loaded("1")
    await first.save(FIRST, Checkpoint("7"))
    bench.source = bench.source.replace("orders", "returns")
    assert await taken(bench.store("2")) == {}
    bench.source = bench.source.replace("returns", "orders")
    assert await taken(bench.store("3")) == {FIRST: Checkpoint("7")}


async def test_leases_without_a_creation_time_belong_to_the_stream_that_is_there(bench: Bench) -> None:
    await (await bench.loaded()).save(FIRST, Checkpoint("7"))
    store = bench.store("2")
    assert not await store.adopt(1000.5, Start())
    assert await taken(store) == {FIRST: Checkpoint("7")}
    assert (await bench.lease())["spec"]["streamCreatedAt"] == "1970-01-01T00:16:40.500Z"


async def test_a_stream_made_anew_inherits_no_lease_and_a_late_write_of_the_former_is_lost(bench: Bench) -> None:
    former = bench.store("1")
    await former.adopt(1000.5, Start())
    await taken(former)
    await former.save(FIRST, Checkpoint("7", finished=True))
    store = bench.store("2", "pod-b")
    assert await store.adopt(2000.0, Start())
    assert await taken(store) == {}
    with pytest.raises(LeaseLost):
        await former.save(FIRST, Checkpoint("8"))
    await store.save(FIRST, Checkpoint("1"))
    again = bench.store("3", "pod-b")
    assert not await again.adopt(2000.0, Start())
    assert await taken(again) == {FIRST: Checkpoint("1")}


async def test_the_same_poller_goes_over_to_a_stream_made_anew(bench: Bench) -> None:
    store = bench.store()
    await store.adopt(1000.5, Start())
    await taken(store)
    await store.save(FIRST, Checkpoint("7"))
    assert await store.adopt(2000.0, Start())
    assert await taken(store, SHARDS[:1]) == {}
    await store.save(FIRST, Checkpoint("2"))
    assert (await bench.status())["sequenceNumber"] == "2"
