// Watches surfaces and evaluates them: node watch.js ADDRESS COUNT UNDERLYING...
//
// Prints a JSON object for every surface, with values at points that it chooses itself, and one
// for the end of the snapshot. Ends when it has seen COUNT surfaces of each underlying.

import { argv, exit, stderr, stdout } from "node:process";
import { now } from "./instants.js";
import { moved } from "./moves.js";
import { surfaceService } from "./protocol.js";
import { standing } from "./standing.js";
import { Surface } from "./surface.js";

const [address, count, ...underlyings] = argv.slice(2);
const left = new Map(underlyings.map((name) => [name, Number(count)]));

// At, between, before and beyond the fitted expiries; inside the quotes and in both wings.
function* points(surface) {
  const { smiles } = surface;
  const times = smiles.flatMap((one, i) =>
    i + 1 < smiles.length ? [one.years, 0.6 * one.years + 0.4 * smiles[i + 1].years] : [one.years],
  );
  times.push(0.3 * smiles[0].years, 1.7 * smiles[smiles.length - 1].years);
  for (const years of times) {
    const smile = smiles.findLast((one) => one.years <= years) ?? smiles[0];
    for (const k of [0, smile.low + 0.4 * (smile.high - smile.low), smile.low - 0.1, 9 * smile.high]) {
      const strike = smile.forward * Math.exp(k);
      yield { strike, years, values: surface.values(strike, years) };
    }
  }
}

const shapes = new Map(); // the last whole surface of each underlying and model

// The update with its surface, made from an earlier one where it tells a move.
function whole(update) {
  const { underlying, model } = update.move ?? update.surface;
  const key = `${model} ${underlying}`;
  if (update.move) {
    return { ...update, surface: moved(shapes.get(key), update.move), isMove: true };
  }
  shapes.set(key, update.surface);
  return update;
}

function told({ epoch, surface: sent, event, snapshotEnd }) {
  if (event !== "surface") {
    return { event, epoch, surfaceCount: snapshotEnd?.surfaceCount };
  }
  const update = whole(sent);
  const { underlying, model, revision } = update.surface;
  const surface = new Surface(update.surface);
  return {
    event,
    epoch,
    underlying,
    model,
    revision,
    isMove: update.isMove ?? false,
    ...standing(update, now()),
    points: [...points(surface)],
  };
}

const client = surfaceService(address);
const call = client.WatchSurfaces({ underlyings, heartbeatInterval: { seconds: 1, nanos: 0 } });
call.on("data", (response) => {
  if (response.event !== "heartbeat") {
    stdout.write(`${JSON.stringify(told(response))}\n`);
  }
  if (response.event === "surface") {
    const name = (response.surface.move ?? response.surface.surface).underlying;
    left.set(name, left.get(name) - 1);
    if ([...left.values()].every((remaining) => remaining <= 0)) {
      call.cancel();
    }
  }
});
call.on("error", (error) => {
  if (error.code !== 1) {
    stderr.write(`${error.message}\n`); // 1: cancelled, by us
    exit(1);
  }
  client.close();
});
