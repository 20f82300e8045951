// How far an update may be relied on at an instant, by the comments on SurfaceUpdate.

import { instant } from "./instants.js";

// By name, or by number as JSON may have it.
const LIVE = ["SURFACE_STATE_LIVE", 1];
const LEVELS = ["NORMAL", "WIDENED", "HELD", "HALTED"];

// `update`: calib.v1.SurfaceUpdate, decoded or in proto3 JSON; `at`: microseconds since 1970.
export function standing(update, at) {
  const limit = update.validUntil;
  const whole = level(update.risk?.level);
  const within = limit === undefined || limit === null || at < instant(limit);
  return {
    state: within && LIVE.includes(update.state) ? "LIVE" : "STALE",
    level: whole,
    expiries: (update.surface.expiries ?? []).map(({ expiry }) => {
      const judged = (update.risk?.expiries ?? []).find(
        (one) => instant(one.expiry) === instant(expiry),
      );
      const own = level(judged?.level); // the more cautious of both
      return LEVELS.indexOf(own) > LEVELS.indexOf(whole) ? own : whole;
    }),
  };
}

// What is absent, not said or of a later version halts.
function level(told) {
  const name = LEVELS[told - 1] ?? String(told).replace("BREAKER_LEVEL_", "");
  return LEVELS.includes(name) ? name : "HALTED";
}
