"""Networks and servers that fail, between processes: what a quoter holds never passes for what it
is not, and is current again when the fault is over.

Every look of the quoter (`tests.client.quoter`) is held against its own clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from calib.client import StaleCause, connect
from calib.client.retrying import Backoff
from calib.conventions import utc_now
from calib.errors import Unavailable
from calib.modelrisk.breakers import BreakerLevel
from calib.states import SurfaceState
from tests.client.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.client.publishing_server import Publishing, publishing
from tests.client.quoter import quoting

EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)
HOUR = np.timedelta64(3_600_000_000, "us")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Publishing]:
    async with publishing() as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patient_server() -> AsyncIterator[Publishing]:
    """One whose quotes may be an hour old, so that nothing turns stale by its age."""
    async with publishing(quote_max_age="1h") as process:
        yield process


in_one_loop = pytest.mark.asyncio(loop_scope="module")


@in_one_loop
@pytest.mark.parametrize(
    "fault",
    [
        FaultProxy.delay,
        FaultProxy.hold,
        FaultProxy.refuse,
        FaultProxy.halve,
        FaultProxy.throttle,
    ],
)
async def test_what_a_fault_makes_old_is_called_so_and_what_follows_is_current(
    server: Publishing, fault: Fault
) -> None:
    async with (
        fault_proxy(server.address) as proxy,
        connect(proxy.address, backoff=EAGER) as client,
        quoting(client) as quoter,
    ):
        await quoter.until(quoter.is_live)
        fault(proxy)
        await quoter.until(quoter.is_stale)
        assert StaleCause.AGED in quoter.causes
        proxy.heal()
        healed = utc_now()
        await quoter.until(lambda: quoter.is_current(healed))
        assert len(quoter.epochs()) == 1


@in_one_loop
async def test_a_connection_that_is_cut_again_and_again_is_taken_up_again(
    server: Publishing,
) -> None:
    async with (
        fault_proxy(server.address) as proxy,
        connect(proxy.address, backoff=EAGER) as client,
        quoting(client) as quoter,
    ):
        await quoter.until(quoter.is_live)
        for _ in range(10):
            proxy.cut()
            cut = utc_now()
            await quoter.until(lambda: quoter.is_current(cut))  # noqa: B023
        assert proxy.connections > 10
        assert len(quoter.epochs()) == 1


@in_one_loop
async def test_a_connection_that_is_dead_without_a_word_is_replaced(server: Publishing) -> None:
    """Nothing ends it, and it never says anything again."""
    async with (
        fault_proxy(server.address) as proxy,
        connect(proxy.address, backoff=EAGER) as client,
        quoting(client) as quoter,
    ):
        for _ in range(2):
            await quoter.until(quoter.is_live)
            proxy.bury()
            buried = utc_now()
            await quoter.until(lambda: quoter.is_current(buried))  # noqa: B023
        assert proxy.connections == 3
        assert StaleCause.AGED in quoter.causes


@in_one_loop
async def test_a_server_that_falls_silent_is_not_believed_however_young_its_quotes(
    patient_server: Publishing,
) -> None:
    async with (
        fault_proxy(patient_server.address) as proxy,
        connect(proxy.address, backoff=EAGER) as client,
        quoting(client, max_age=HOUR) as quoter,
    ):
        await quoter.until(quoter.is_live)
        kept = dict(quoter.book)
        proxy.hold()
        await quoter.until(quoter.is_stale)
        assert quoter.causes == {None, StaleCause.SILENT}
        assert {update.level for update in kept.values()} == {BreakerLevel.HALTED}
        proxy.heal()
        healed = utc_now()
        await quoter.until(lambda: quoter.is_current(healed))


@in_one_loop
async def test_a_process_that_hangs_is_noticed_and_found_again(
    patient_server: Publishing,
) -> None:
    async with (
        connect(patient_server.address, backoff=EAGER) as client,
        quoting(client, max_age=HOUR) as quoter,
    ):
        await quoter.until(quoter.is_live)
        patient_server.stop()
        try:
            await quoter.until(quoter.is_stale)
        finally:
            patient_server.go_on()
        woken = utc_now()
        await quoter.until(lambda: quoter.is_current(woken))


@in_one_loop
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_clocks_that_disagree_say_nothing_about_age(
    patient_server: Publishing, ahead: np.timedelta64
) -> None:
    async with (
        connect(
            patient_server.address, backoff=EAGER, clock=lambda: utc_now() + ahead / 2
        ) as client,
        quoting(client, max_age=HOUR) as quoter,
    ):
        await quoter.until(lambda: StaleCause.CLOCK in quoter.causes)
        update = await client.get("BTC")
        assert update.stale_cause is StaleCause.CLOCK
        assert update.level is BreakerLevel.NORMAL
        assert update.contact is not None
        lead = update.contact.clock_lead_seconds
        assert lead == pytest.approx(ahead / np.timedelta64(2, "s"), abs=60.0)


@in_one_loop
async def test_messages_that_are_late_all_alike_are_not_believed(
    patient_server: Publishing,
) -> None:
    """Heartbeats come as often as ever, and each is as old as the delay."""
    async with (
        fault_proxy(patient_server.address) as proxy,
        connect(proxy.address, backoff=EAGER, clock_bound_seconds=0.3) as client,
        quoting(client, max_age=HOUR) as quoter,
    ):
        await quoter.until(quoter.is_live)
        proxy.delay(0.6)
        await quoter.until(lambda: StaleCause.CLOCK in quoter.causes)
        proxy.heal()
        healed = utc_now()
        await quoter.until(lambda: quoter.is_current(healed))


@in_one_loop
async def test_a_read_is_tried_again_within_its_deadline(server: Publishing) -> None:
    async with (
        fault_proxy(server.address) as proxy,
        connect(proxy.address, timeout_seconds=30.0, backoff=EAGER) as client,
    ):
        proxy.refuse()
        asking = asyncio.create_task(client.get("BTC"))
        while proxy.connections < 2:  # noqa: ASYNC110 - a proxy tells nobody
            await asyncio.sleep(0.01)
        assert not asking.done()
        proxy.heal()
        assert (await asking).state is SurfaceState.LIVE


@in_one_loop
async def test_a_read_ends_at_its_deadline_and_the_next_finds_a_new_connection(
    server: Publishing,
) -> None:
    async with (
        fault_proxy(server.address) as proxy,
        connect(proxy.address, timeout_seconds=1.0, backoff=EAGER) as client,
    ):
        assert (await client.get("BTC")).state is SurfaceState.LIVE
        proxy.hold()
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await client.get("BTC")
        seen = proxy.connections
        proxy.heal()
        assert (await client.get("BTC")).state is SurfaceState.LIVE
        assert proxy.connections > seen


@in_one_loop
async def test_a_read_goes_to_the_next_server_when_one_does_not_answer(
    server: Publishing,
) -> None:
    async with fault_proxy(server.address) as first, fault_proxy(server.address) as second:
        both = [first.address, second.address]
        async with connect(both, timeout_seconds=2.0, backoff=EAGER) as client:
            assert (await client.get("BTC")).server == first.address
            first.hold()
            assert (await client.get("BTC")).server == second.address
            first.heal()
            assert (await client.get("BTC")).server == second.address
            second.refuse()
            assert (await client.get("BTC")).server == first.address
