"""The audit: what a server published is built again to the last bit, or said not to be."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib
from calib.client import connect
from calib.quotes.chain import chains
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.states import FitState
from calib.store import Build, Entry, Fitted, Moved, open_store, this_build
from calib.store.audit import Finding, Verdict, _distance, audit
from calib.surface.surface import Surface
from tests.cli.samples import CommandLine
from tests.service.conftest import QUIET
from tests.service.samples import surface


async def _replayed(url: str) -> None:
    """The sample market, a server restarted within it, levels moved after every time."""
    table = calib.read_quotes(calib.sample_quotes())
    times = sorted({chain.quote_time for chain in chains(table)})
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        store=url,
        warm_up=False,
        model_risk=QUIET,  # whatever the sample market does is published
        clocks={"BTC": calib.VarianceClock.weekends(0.4)},
    )
    for session in (times[:2], times[2:]):
        async with running(settings) as server, connect(server.address) as client:
            await client.wait_until_serving()
            for time in session:
                async with client.publisher() as publisher:
                    await publisher.send(table.take(table.quote_time == time))
                wanted = set(table.underlyings)
                async for update in client.watch():
                    if update.quote_time == time:
                        wanted.discard(update.underlying)
                    if not wanted:
                        break
                surface = await client.get("BTC")
                moved = {one.expiry: 1.01 * one.forward for one in surface.expiries}
                await client.publish_levels(
                    "BTC", venue=table.venue[0], quote_time=time, forwards=moved
                )
                async for update in client.watch(["BTC"]):
                    if update.surface.expiries[0].forward != surface.expiries[0].forward:
                        break


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a server that has ended."""
    folder = tmp_path_factory.mktemp("recorded")
    asyncio.run(_replayed(str(folder / "calib.db")))
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(recorded, tmp_path / "copy")
    return tmp_path / "copy"


def findings(folder: Path, **chosen: object) -> list[Finding]:
    with open_store(str(folder / "calib.db")) as store:
        return list(audit(store, **chosen))  # type: ignore[arg-type]


def verdicts(found: list[Finding]) -> dict[str, int]:
    return dict(Counter(one.verdict.value for one in found))


def tamper(folder: Path, surface: Surface) -> None:
    message = surface.to_proto().SerializeToString()
    with sqlite3.connect(folder / "calib.db") as connection:
        connection.execute(
            "UPDATE surfaces SET message = ? WHERE epoch = ? AND revision = ?",
            (message, surface.epoch, surface.revision),
        )
    connection.close()


def test_all_that_was_published_is_built_again_bit_for_bit(recorded: Path) -> None:
    found = findings(recorded)
    assert verdicts(found) == {"identical": len(found)}, found
    with open_store(str(recorded / "calib.db")) as store:
        stored = list(store.published())
    sources = [one.provenance for one in stored]
    assert sum(isinstance(source, Moved) for source in sources) >= 3
    fits = [source for source in sources if isinstance(source, Fitted)]
    assert len(fits) == 9
    # Of a batch of several, and from a surface of the run before.
    assert any(len(source.batch.members) > 1 for source in fits)
    previous = [source.batch.members[source.place].previous for source in fits]
    epochs = {one.key.epoch for one in stored}
    assert len(epochs) == 2
    starts = {one.epoch for one in previous if one is not None}
    assert starts == {min(epochs)}  # the second run had one time alone


def test_what_is_asked_for_is_audited(recorded: Path) -> None:
    every = findings(recorded)
    assert {one.underlying for one in findings(recorded, underlying="ETH")} == {"ETH"}
    last = max(one.quote_time for one in every)
    assert findings(recorded, start=last) == [one for one in every if one.quote_time == last]
    one = every[3]
    assert one in findings(recorded, revision=one.key.revision)


def test_a_surface_that_was_tampered_with_is_found(folder: Path) -> None:
    with open_store(str(folder / "calib.db")) as store:
        victim = list(store.surfaces("ETH"))[-1]
    first = victim.expiries[0]
    forward = np.nextafter(first.forward, np.inf)  # the least that can be changed at all
    changed = (replace(first, forward=forward), *victim.expiries[1:])
    tamper(folder, replace(victim, expiries=changed))
    found = findings(folder)
    (bad,) = [one for one in found if one.verdict is not Verdict.IDENTICAL]
    assert bad.verdict is Verdict.DIFFERENT
    assert (bad.underlying, bad.key.revision) == ("ETH", victim.revision)
    assert "forward" in bad.detail


def test_a_moved_surface_that_was_tampered_with_is_found(folder: Path) -> None:
    with open_store(str(folder / "calib.db")) as store:
        moves = [one for one in store.published() if isinstance(one.provenance, Moved)]
    victim = moves[0].surface()
    tamper(folder, replace(victim, spot=1.0))
    (bad,) = [one for one in findings(folder) if one.verdict is not Verdict.IDENTICAL]
    assert bad.verdict is Verdict.DIFFERENT
    assert bad.key == moves[0].key


def test_a_row_that_holds_another_surface_is_found(folder: Path) -> None:
    with sqlite3.connect(folder / "calib.db") as connection:
        connection.execute(
            "UPDATE surfaces SET message = (SELECT message FROM surfaces WHERE underlying = 'ETH') "
            "WHERE underlying = 'SPX' AND id = (SELECT min(id) FROM surfaces "
            "WHERE underlying = 'SPX')"
        )
    connection.close()
    bad = [one for one in findings(folder, underlying="SPX") if one.verdict is Verdict.DIFFERENT]
    assert "holds another surface" in bad[0].detail


def test_quotes_that_were_tampered_with_are_no_longer_those_that_were_fitted(folder: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for path in (folder / "calib.quotes" / "ETH").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        bid = table.column_names.index("bid")
        pq.write_table(table.set_column(bid, "bid", pc.multiply(table["bid"], 1.01)), path)
    found = findings(folder)
    assert {one.verdict for one in found if one.underlying == "ETH"} == {Verdict.NOT_AUDITED}
    # What shared a batch with them is fitted alone, and only its certificate may differ in a bit.
    others = {one.verdict for one in found if one.underlying != "ETH"}
    assert others <= {Verdict.IDENTICAL, Verdict.CLOSE}


ELSEWHERE = Build(this_build().code, this_build().libraries, "another processor")


def last_of(folder: Path, underlying: str) -> Surface:
    """The last surface, from which no other started."""
    with open_store(str(folder / "calib.db")) as store:
        return list(store.surfaces(underlying))[-1]


def with_first(surface: Surface, **changed: Any) -> Surface:
    first, *others = surface.expiries
    return replace(surface, expiries=(replace(first, **changed), *others))


def only_bad(folder: Path, underlying: str) -> Finding:
    found = findings(folder, underlying=underlying, build=ELSEWHERE)
    (bad,) = [one for one in found if one.verdict is not Verdict.IDENTICAL]
    return bad


def test_elsewhere_a_tolerance_holds_and_is_said_to(folder: Path) -> None:
    victim = last_of(folder, "SPX")
    a, *others = victim.expiries[0].parameters
    tamper(folder, with_first(victim, parameters=(a * (1.0 + 1e-11), *others)))
    moved = only_bad(folder, "SPX")
    assert moved.verdict is Verdict.CLOSE
    assert "another processor" in moved.detail
    assert 0.0 < moved.vol_difference < 1e-6


def _recertified(surface: Surface) -> Surface:
    certificate = surface.certificate
    free = not certificate.arbitrage_free
    return replace(surface, certificate=replace(certificate, arbitrage_free=free))


def _blended(surface: Surface) -> Surface:
    return replace(surface, blend=0.5)


def _uncertain(surface: Surface) -> Surface:
    return with_first(surface, covariance=tuple(9.0 * c for c in surface.expiries[0].covariance))


def _uncertain_and_moved(surface: Surface) -> Surface:
    """Moved by a thousandth of vol, with an error bar that would allow it."""
    first = surface.expiries[0]
    a, *others = first.parameters
    wide = tuple(1e6 * c for c in first.covariance)
    return with_first(surface, parameters=(a + 1e-3 * first.years, *others), covariance=wide)


def _stopped(surface: Surface) -> Surface:
    diagnostics = surface.expiries[0].diagnostics
    (other,) = {FitState.CONVERGED, FitState.STEP_LIMIT} - {diagnostics.state}
    return with_first(surface, diagnostics=replace(diagnostics, state=other))


def _narrowed(surface: Surface) -> Surface:
    low = surface.expiries[0].log_moneyness_min
    return with_first(surface, log_moneyness_max=low)


@pytest.mark.parametrize(
    "change", [_recertified, _blended, _uncertain, _uncertain_and_moved, _stopped, _narrowed]
)
def test_elsewhere_too_a_surface_claims_what_its_fit_does(
    folder: Path, change: Callable[[Surface], Surface]
) -> None:
    tamper(folder, change(last_of(folder, "SPX")))
    assert only_bad(folder, "SPX").verdict is Verdict.DIFFERENT


def test_a_surface_without_a_vol_somewhere_is_not_within_tolerance() -> None:
    one = surface()
    # Below zero at one node by less than a rounding error of its terms, which a valid smile may be.
    parameters = (-1e5 - 2e-10, 0.1, 0.0, -0.05, 1e6)
    none = replace(
        one, expiries=tuple(replace(each, parameters=parameters) for each in one.expiries)
    )
    assert np.isnan(_distance(none, one)).all()
    assert np.isnan(_distance(one, none)).all()


def test_one_that_is_damaged_does_not_condemn_what_was_fitted_with_it(folder: Path) -> None:
    with open_store(str(folder / "calib.db")) as store:
        sources = [one.provenance for one in store.published()]
    batches = [source.batch for source in sources if isinstance(source, Fitted)]
    members = next(
        one.members
        for one in batches
        if len(one.members) > 1 and all(member.previous for member in one.members)
    )
    first, *others = members
    assert first.previous is not None
    with sqlite3.connect(folder / "calib.db") as connection:
        connection.execute(
            "UPDATE surfaces SET message = x'ff' WHERE epoch = ? AND revision = ?",
            first.previous,
        )
    connection.close()
    found = {(one.underlying, one.quote_time): one for one in findings(folder)}
    assert found[first.underlying, first.quote_time].verdict is Verdict.DIFFERENT
    for member in others:
        one = found[member.underlying, member.quote_time]
        assert one.verdict in (Verdict.IDENTICAL, Verdict.CLOSE), one


def test_without_quotes_or_origin_nothing_is_claimed(folder: Path) -> None:
    shutil.rmtree(folder / "calib.quotes")
    with open_store(str(folder / "calib.db")) as store:
        stranger = replace(next(store.surfaces("ETH")), epoch="elsewhere")
        store.append([Entry(surface=stranger.to_proto())])
    found = findings(folder, underlying="ETH")
    assert verdicts(found) == {"not audited": len(found)}
    assert {one.detail for one in found} == {
        "the quotes that it was fitted to are not stored",
        "where it comes from was not recorded",
    }


def test_the_command_prints_a_table_and_ends_as_it_found(
    calib_command: CommandLine, folder: Path
) -> None:
    url = folder / "calib.db"
    ended = calib_command("audit", "--store", url)
    assert ended.code == 0, ended
    assert "identical" in ended.out
    assert [line for line in ended.out.splitlines() if line.split()[:2] == ["ETH", "SVI"]]
    with open_store(str(url)) as store:
        victim = next(store.surfaces("ETH"))
    tamper(folder, replace(victim, blend=0.5))
    ended = calib_command("audit", "--store", url, "--underlying", "ETH")
    assert ended.code == 1
    assert f"revision {victim.revision}: different: differs in blend" in ended.out
    assert calib_command("audit", "--store", url, "--underlying", "XYZ").code == 2
    assert calib_command("audit", "--store", url, "--start", "yesterday").code == 2
    assert calib_command("audit", "--store", folder / "none.db").code == 2
