"""Faults put into a simulated market are found for what they are, and calm finds nothing."""

from tests.modelrisk.injected_causes import simulated_score


def test_faults_put_into_a_simulated_market_are_found_first() -> None:
    found = simulated_score(seed=4)
    assert sum(found.counts.values()) == 3 * 11
    assert found.right >= 0.9, "\n" + found.table()
    assert found.wrong <= 0.05, "\n" + found.table()
    assert found.false_share <= 0.05, "\n" + found.table()
