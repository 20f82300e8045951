"""The words and numbers of a model-risk report, each with what it means."""

from __future__ import annotations

DEFINITIONS = {
    "vol, bp": "Implied volatility as Black's; a basis point is 0.01 vol points, 0.0001 as a "
    "decimal.",
    "half-spread": "Half of ask vol less bid vol of one quote: the unit in which a residual is "
    "small (below 1: the model lies inside bid–ask) or large.",
    "in-sample error": "Model less mid vol of the two-sided quotes that a surface was fitted to; "
    "rms over quotes, and the median of the expiries' rms, which one absurd quote does not move.",
    "one-step-ahead error": "The next chain's mids less what the surface before it said of them, "
    "moved along with the forward. No quote is foreseen by a surface that saw it.",
    "standard error (s.e.), bar alone": "√(e² + (sh)²): the error e of the last surface and the "
    "noise of the next quote, h its half-spread and s as the residuals show it. It takes the "
    "market to stand still.",
    "with the market's move": "The same with the process noise of the level of vol added, "
    "(λσ₀)²·Δ·T^(−2·0.6), λ = 0.135, Δ years between chains, T years to expiry, at least half a "
    "day. This is the bar that an honest forecast is judged by: 68.3 % within one, 95.5 % within "
    "two, standard deviation 1.",
    "tenor buckets": "Times to expiry below 2 days, 1 week, 1 month (30 days), 3 months (91 days), "
    "1 year, and beyond.",
    "delta buckets": "Strikes by the forward delta of the call: 10P (above 0.825), 25P (to 0.625), "
    "ATM (to 0.375), 25C (to 0.175), 10C (below).",
    "EWMA, CUSUM": "Control charts of the standardised innovations (what comes in beyond what was "
    "foreseen) of level and skew, one of each a tenor bucket. EWMA with weight 0.1 and limit "
    "2.814 signals once in 500 steps by chance, CUSUM with slack 0.5 and limit 5 once in 465.",
    "alarms by design": "How many alarms these run lengths allow for by chance, given how many "
    "steps the charts made.",
    "quiet week": "Among the half of weeks with the smaller largest move of ATM vol (expiries of a "
    "week or more) between two chains.",
    "NORMAL": "Quote as published.",
    "WIDENED": "Quote with error bars multiplied as said, and at least the least half-spread.",
    "HELD": "The last good surface stands, marked with its age.",
    "HALTED": "Do not quote.",
    "least half-spread": "Φ⁻¹(0.9) = 1.28 standard errors at the money, multiplied as the breaker "
    "says.",
    "prudent valuation": "Two lines not to be mixed. Price ±: the 90 % point of the fit's error, "
    "1.28 standard errors (Commission Delegated Regulation (EU) 2016/101, Article 9). Model ±: "
    "the 90 % point of the range between models on the same quotes (Article 11).",
    "model range": "Largest less smallest vol of SVI, eSSVI and SABR on the same quotes, at the "
    "strikes where the model in force has the delta. What the quotes leave open: √(h² + e²), the "
    "median half-spread and the error at the money.",
    "sources of error": "Rules of one number against one limit each. Data: few, wide, stale, "
    "one-sided, crossed quotes, forwards that contradict parity. Numerics: not converged, at a "
    "bound, blended to the anchor. Shape: residuals that keep their sign, models that disagree. "
    "Regime: jumps of forward, level or parameters, errors that leave their bars.",
}
"""By term, in the order in which a reader meets them."""
