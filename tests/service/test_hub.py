"""The hub: latest per surface and never a queue, rising revisions, tokens that resume exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.service.hub import Delivery, Filter, Hub, Key, new_epoch
from calib.service.refusals import Overloaded
from calib.states import ModelName, SurfaceState
from calib.store import Moved, SurfaceKey
from calib.surface.transport import with_levels
from calib.v1 import surface_service_pb2
from tests.service.samples import START, surface

SVI = ModelName.SVI
SAMPLES = {name: surface(name) for name in ("BTC", "ETH", "SPX")}
Step = tuple[str, Callable[[Hub], object]]


def told(deliveries: list[Delivery]) -> list[tuple[str, int, int]]:
    return [
        (d.published.key.underlying, d.published.revision, d.conflated_count) for d in deliveries
    ]


async def test_the_mailbox_holds_the_latest_of_each_surface_in_order() -> None:
    hub = Hub("e")
    with hub.subscribe(Filter()) as subscription:
        for name in ("BTC", "ETH", "BTC", "BTC", "SPX", "ETH"):
            hub.publish(SAMPLES[name])
        assert told(await subscription.take(0.0)) == [("BTC", 4, 2), ("SPX", 5, 0), ("ETH", 6, 1)]
        assert await subscription.take(0.0) == []
        hub.publish(SAMPLES["BTC"])
        assert told(await subscription.take(0.0)) == [("BTC", 7, 0)]


async def test_a_change_of_state_is_told_but_skips_no_surface() -> None:
    hub = Hub("e")
    hub.publish(SAMPLES["BTC"])
    with hub.subscribe(Filter()) as subscription:
        assert hub.restate(Key("BTC", SVI), SurfaceState.STALE)
        assert not hub.restate(Key("BTC", SVI), SurfaceState.STALE)
        (delivery,) = await subscription.take(0.0)
        assert (delivery.published.revision, delivery.published.state) == (1, SurfaceState.STALE)
        hub.restate(Key("BTC", SVI), SurfaceState.LIVE)
        hub.publish(SAMPLES["BTC"])  # over a change of state of a surface that was told already
        hub.restate(Key("BTC", SVI), SurfaceState.STALE)
        assert told(await subscription.take(0.0)) == [("BTC", 2, 0)]
    assert not hub.restate(Key("ETH", SVI), SurfaceState.STALE)


async def test_a_snapshot_holds_what_is_in_force_and_is_wanted() -> None:
    hub = Hub("e")
    for name in ("BTC", "ETH", "BTC"):
        hub.publish(SAMPLES[name])
    hub.publish(surface("BTC", model=ModelName.ESSVI))
    wanted = Filter(frozenset({"BTC", "VIX"}))
    with hub.subscribe(wanted) as subscription:
        assert told(subscription.snapshot) == [("BTC", 3, 0), ("BTC", 4, 0)]
        hub.publish(SAMPLES["ETH"])
        assert await subscription.take(0.0) == []
        hub.publish(surface("VIX"))
        assert told(await subscription.take(0.0)) == [("VIX", 6, 0)]
    with hub.subscribe(Filter(models=frozenset({ModelName.ESSVI}))) as subscription:
        assert told(subscription.snapshot) == [("BTC", 4, 0)]


def test_a_token_leaves_out_what_it_covers_and_nothing_else() -> None:
    hub = Hub("e")
    everything = Filter()
    hub.publish(SAMPLES["BTC"])
    token = hub.token(everything, hub.sequence)
    hub.publish(SAMPLES["ETH"])
    with hub.subscribe(everything, token) as subscription:
        assert told(subscription.snapshot) == [("ETH", 2, 0)]
    hub.restate(Key("BTC", SVI), SurfaceState.STALE)  # a state that the token does not cover
    with hub.subscribe(everything, token) as subscription:
        assert told(subscription.snapshot) == [("ETH", 2, 0), ("BTC", 1, 0)]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "e/1",
        "e/-1/",
        "e/9/",
        "f/1/{digest}",
        "e/99/{digest}",
        "e/²/{digest}",
        "e/1e9/{digest}",
        "e/" + "9" * 40 + "/{digest}",
        "\0/\0/\0",
        "e/1/wrong",
    ],
)
def test_a_token_that_is_not_this_hubs_gives_a_full_snapshot(token: str) -> None:
    hub = Hub("e")
    hub.publish(SAMPLES["BTC"])
    with hub.subscribe(Filter(), token.format(digest=Filter().digest)) as subscription:
        assert told(subscription.snapshot) == [("BTC", 1, 0)]


def test_a_token_of_another_filter_gives_a_full_snapshot() -> None:
    hub = Hub("e")
    hub.publish(SAMPLES["BTC"])
    hub.publish(SAMPLES["ETH"])
    token = hub.token(Filter(frozenset({"BTC"})), hub.sequence)
    with hub.subscribe(Filter(frozenset({"BTC", "ETH"})), token) as subscription:
        assert len(subscription.snapshot) == 2


def test_subscribers_are_counted_and_bounded() -> None:
    hub = Hub("e", max_subscribers=2)
    with hub.subscribe(Filter()), hub.subscribe(Filter()):
        with pytest.raises(Overloaded), hub.subscribe(Filter()):
            pass
        assert hub.subscribers == 2
    assert hub.subscribers == 0


async def test_a_waiting_subscriber_wakes_at_once_and_gives_up_in_time() -> None:
    hub = Hub("e")
    loop = asyncio.get_running_loop()
    with hub.subscribe(Filter()) as subscription:
        loop.call_later(0.01, hub.publish, SAMPLES["BTC"])
        assert told(await subscription.take(30.0)) == [("BTC", 1, 0)]
        assert await subscription.take(0.01) == []


def test_bounds_of_scales_are_those_of_what_they_come_with() -> None:
    hub, key = Hub("e"), Key("BTC", SVI)
    hub.publish(SAMPLES["BTC"], headroom=1.02)
    source = Moved(SurfaceKey("e", 1), (1.0,) * 3, None, 0.9)
    hub.move(key, with_levels(SAMPLES["BTC"], source.factors, None, 0.9), source)
    published = hub.get(key)
    assert published is not None
    assert published.update.variance_scale_max == 1.02 / 0.9
    assert published.shape_update.variance_scale_max == 1.02
    event = surface_service_pb2.WatchSurfacesResponse.FromString(published.event("e", "t", 3))
    assert event.surface.variance_scale_max == 1.02 / 0.9
    assert event.surface.conflated_count == 3


def test_a_change_of_state_says_how_old_the_quotes_are_by_now() -> None:
    hub, key = Hub("e"), Key("BTC", SVI)
    hub.publish(SAMPLES["BTC"], age=np.timedelta64(1, "s"))
    later = np.timedelta64(700, "s")
    assert hub.restate(key, SurfaceState.STALE, age=later)
    assert not hub.restate(key, SurfaceState.STALE, age=2 * later)  # no news by itself
    published = hub.get(key)
    assert published is not None
    assert published.update.age.ToSeconds() == 700


def test_the_message_says_all_that_the_surface_does_and_how_it_was_published() -> None:
    now = datetime(2026, 3, 2, 8, 0, 1, 250_000, tzinfo=UTC)
    hub = Hub("e", valid_for=np.timedelta64(60_000_000, "us"), clock=lambda: now)
    message = hub.publish(SAMPLES["BTC"], input_hash="ab", code_version="1")
    assert (message.epoch, message.revision) == ("e", 1)
    assert message.calibration_time.ToDatetime(tzinfo=UTC) == now
    assert (message.input_hash, message.code_version) == ("ab", "1")
    published = hub.get(Key("BTC", SVI))
    assert published is not None
    until = published.update.valid_until.ToDatetime()
    assert until == START.astype(datetime) + timedelta(seconds=60)
    assert published.update.surface is not None
    fresh = SAMPLES["BTC"].to_proto()
    for name in ("epoch", "revision", "calibration_time", "input_hash", "code_version"):
        message.ClearField(name)
    assert message == fresh


def test_epochs_sort_in_the_order_of_their_runs() -> None:
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 15)]
    epochs = [new_epoch(day) for day in days]
    assert epochs == sorted(epochs)
    assert new_epoch(days[0]) != new_epoch(days[0])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(sorted(SAMPLES))),
        st.tuples(st.just("move"), st.sampled_from(sorted(SAMPLES))),
        st.tuples(st.just("restate"), st.sampled_from(sorted(SAMPLES))),
        st.tuples(st.just("take"), st.just("")),
        st.tuples(st.just("resume"), st.just("")),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_reader_that_comes_and_goes_misses_nothing_and_is_told_nothing_twice(
    steps: list[tuple[str, str]],
) -> None:
    """Whatever happens in between: sequences rise, counts add up, the end state is the hub's."""

    async def run() -> None:
        hub = Hub("e")
        wanted = Filter(frozenset({"BTC", "ETH"}))
        token, last, delivered, conflated = "", 0, 0, 0
        known: dict[Key, tuple[int, SurfaceState]] = {}
        shapes: dict[Key, int] = {}
        published = dict.fromkeys(("BTC", "ETH", "SPX"), 0)
        subscribed = hub.subscribe(wanted)
        subscription = subscribed.__enter__()

        def hear(deliveries: list[Delivery]) -> None:
            nonlocal token, last, delivered, conflated
            for one, missed, has_shape in deliveries:
                assert one.sequence > last
                if has_shape and one.move is not None:
                    assert shapes[one.key] == one.shape.revision
                shapes[one.key] = one.shape.revision
                last = one.sequence
                if known.get(one.key, (0,))[0] != one.revision:
                    delivered += 1
                conflated += missed
                known[one.key] = (one.revision, one.state)
                token = hub.token(wanted, one.sequence)

        for what, name in [*steps, ("take", "")]:
            match what:
                case "publish":
                    hub.publish(SAMPLES[name])
                    published[name] += 1
                case "move":
                    key, source = Key(name, SVI), Moved(SurfaceKey("e", 0), (1.01,) * 3, None, 0.99)
                    if hub.get(key) is not None:
                        moved = with_levels(SAMPLES[name], source.factors, None, 0.99)
                        hub.move(key, moved, source)
                        published[name] += 1
                case "restate":
                    key = Key(name, SVI)
                    now = hub.get(key)
                    other = {SurfaceState.LIVE: SurfaceState.STALE}
                    hub.restate(
                        key, other.get(now.state, SurfaceState.LIVE) if now else SurfaceState.STALE
                    )
                case "resume":
                    hear(await subscription.take(0.0))
                    subscribed.__exit__(None, None, None)
                    subscribed = hub.subscribe(wanted, token)
                    subscription = subscribed.__enter__()
                    hear(subscription.snapshot)
                case _:
                    hear(await subscription.take(0.0))
        in_force = {p.key: (p.revision, p.state) for p in hub if wanted.accepts(p.key)}
        assert known == in_force
        assert delivered + conflated == published["BTC"] + published["ETH"]

    asyncio.run(run())


async def test_other_work_is_done_between_the_turns_of_many_subscribers() -> None:
    hub = Hub("e", max_subscribers=1_000)
    taken: list[list[Delivery]] = []
    rounds = 0

    async def reader() -> None:
        with hub.subscribe(Filter()) as subscription:
            taken.append(await subscription.take(60.0))

    async with asyncio.TaskGroup() as group:
        for _ in range(500):
            group.create_task(reader())
        await asyncio.sleep(0)
        hub.publish(surface(level=0.04))
        while len(taken) < 250:
            await asyncio.sleep(0)
            rounds += 1
        hub.publish(surface(level=0.05))
    assert rounds >= 4  # not all at once
    revisions = [[one.published.revision for one in deliveries] for deliveries in taken]
    assert revisions[0] == [1]
    assert revisions[-1] == [2]  # whoever had not had a turn gets the latest, and is told
    assert [one.conflated_count for one in taken[-1]] == [1]
    assert len(taken) == 500


async def test_subscribers_that_are_slow_to_be_written_to_keep_nobody_waiting() -> None:
    hub, told_of, over = Hub("e"), 0, asyncio.Event()

    async def reader() -> None:
        nonlocal told_of
        with hub.subscribe(Filter()) as subscription:
            assert told(await subscription.take(60.0)) == [("BTC", 1, 0)]
            told_of += 1
            await over.wait()  # never back for more
            assert told(await subscription.take(60.0)) == [("BTC", 3, 1)]

    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        for _ in range(180):
            group.create_task(reader())
        await asyncio.sleep(0)
        hub.publish(SAMPLES["BTC"])
        while told_of < 180:  # noqa: ASYNC110 - the hub tells nobody
            await asyncio.sleep(0.001)
        hub.publish(SAMPLES["BTC"])
        hub.publish(SAMPLES["BTC"])
        over.set()
    assert hub.subscribers == 0
