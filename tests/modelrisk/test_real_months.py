"""On recorded markets: quiet weeks are quiet, stress is seen, injected causes are found."""

import numpy as np
import pytest

from calib.modelrisk.breakers import BreakerLevel
from tests.market.shared_tables import needs_tables
from tests.modelrisk.injected_causes import Score, score
from tests.modelrisk.real_months import SIX_HOURS, by_week, chains_of, monitored

pytestmark = [pytest.mark.real_data, needs_tables]


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_a_quiet_week_is_quiet(underlying: str) -> None:
    found = monitored(chains_of("deribit_2026-04-01_07.parquet", underlying))
    (week,) = by_week(found).values()
    assert len(week.alarms) <= 3  # two charts on two series of five tenors: 1.2 a week by design
    assert all(trip.after is BreakerLevel.WIDENED for trip in week.trips)
    assert week.levels[BreakerLevel.NORMAL] > 0.95 * sum(week.levels.values())
    for name in ("level_z", "skew_z"):  # a week that the noise of the skew was not chosen on
        z = np.array([getattr(each, name) for one in found for each in one.innovations])
        assert 0.4 < np.sqrt(np.nanmean(z * z)) < 1.2


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_the_fall_at_the_end_of_january_is_seen(underlying: str) -> None:
    found = monitored(chains_of("deribit_2026-01.parquet", underlying, "2026-01-23"))
    stress = np.datetime64("2026-01-29T12:00", "us")
    before = [one for one in found if one.at < stress]
    after = [one for one in found if one.at >= stress]
    alarms = [alarm for one in after for alarm in one.alarms if alarm.metric == "level"]
    assert len({alarm.tenor for alarm in alarms}) >= 4
    assert all(alarm.value > 0.0 for alarm in alarms)  # vols rose
    assert len(alarms) > 2 * sum(len(one.alarms) for one in before)


def test_faults_put_into_recorded_chains_are_found_first_or_too_small_to_be_found() -> None:
    both = Score()
    for name in ("BTC", "ETH"):
        both += score(chains_of("deribit_2026-04-01_07.parquet", name), SIX_HOURS, every=9)
    assert sum(both.counts.values()) == 66
    assert both.right >= 0.8, "\n" + both.table()
    assert both.wrong <= 0.1, "\n" + both.table()
