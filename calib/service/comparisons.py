"""Models side by side, now and then: the others fitted to the quotes of the surface in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from calib.modelrisk.comparison import compare
from calib.service.engine import Engine
from calib.service.fit_thread import FitJob, Fitter, FitThread
from calib.service.market import Market
from calib.states import ModelName
from calib.surface.surface import Surface

_log = structlog.get_logger(__name__)


class Comparisons:
    """Fits the other models of every underlying, ``every`` so often, when nothing else is fitted.

    What they say is weighed with the next fit, and stands until the next comparison.
    """

    def __init__(
        self,
        engine: Engine,
        thread: FitThread,
        fitter: Fitter,
        *,
        every: timedelta,
        seconds: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._fitter = fitter
        self._every = every.total_seconds()
        self._seconds = seconds

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, 0.25 * self._every))
            for market in list(self._engine.markets.values()):
                due = self._seconds() - market.compared_at >= self._every
                if due and self._engine.idle and market.candidate is not None:
                    await self._compare(market)

    async def _compare(self, market: Market) -> None:
        market.compared_at = self._seconds()
        chain, made = market.chain, market.candidate
        if chain is None or made is None or chain.quote_time != made.surface.quote_time:
            return
        surface, others = made.surface, []
        try:
            for model in ModelName:
                if model is not surface.model:
                    job = FitJob(chain, model, market.calendar, market.others.get(model))
                    # One by one, so that quotes that come meanwhile wait for one fit at most.
                    others.append(await self._fitted(self._engine.clocked(job)))
            good = [one for one in others if one.expiries and one.certificate.arbitrage_free]
            found = await self._thread.run(lambda: compare([surface, *good])) if good else ()
        except Exception as error:  # noqa: BLE001 - a comparison that fails says nothing
            _log.warning("not_compared", underlying=market.key.underlying, error=str(error))
            return
        market.others = {each.model: each for each in good}
        market.compared = found

    async def _fitted(self, job: FitJob) -> Surface:
        return await self._thread.run(lambda: self._fitter([job])[0].surface)
