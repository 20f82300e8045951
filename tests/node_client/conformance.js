// Runs conformance files: node conformance.js FILE...
//
// Prints a JSON object a file: how many values were compared, and which disagree.

import { readFileSync } from "node:fs";
import { argv, exit, stdout } from "node:process";
import { instant } from "./instants.js";
import { standing } from "./standing.js";
import { Surface } from "./surface.js";

const TOLERANCE = 1e-12;

function agrees(value, expected) {
  if (typeof value !== "number" || typeof expected !== "number") {
    return JSON.stringify(value) === JSON.stringify(expected); // a list of levels, too
  }
  return Math.abs(value - expected) <= TOLERANCE * Math.max(1, Math.abs(expected));
}

function compare(file) {
  const { surface: message, cases } = JSON.parse(readFileSync(file, "utf-8"));
  const surface = new Surface(message);
  const wrong = [];
  let compared = 0;
  for (const { strike, expiry, years, update, now, expected } of cases) {
    const t = expiry === undefined ? years : surface.years(instant(expiry));
    const values =
      update === undefined
        ? surface.values(strike, t)
        : standing({ ...update, surface: message }, instant(now));
    for (const name of new Set([...Object.keys(expected), ...Object.keys(values)])) {
      compared += 1;
      if (!agrees(values[name], expected[name])) {
        wrong.push({ strike, t, update, name, value: values[name], expected: expected[name] });
      }
    }
  }
  return { file, compared, wrong };
}

const found = argv.slice(2).map(compare);
found.forEach((one) => stdout.write(`${JSON.stringify(one)}\n`));
exit(found.some((one) => one.wrong.length > 0) ? 1 : 0);
