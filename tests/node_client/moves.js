// A surface under other levels, by the comments on calib.v1.SurfaceMove.

const SCALED = { svi: ["a", "b"], essvi: ["theta", "psi"], sabr: [] };
const NAMES = {
  svi: ["a", "b", "rho", "m", "sigma"],
  essvi: ["theta", "rho", "psi"],
  sabr: ["alpha", "beta", "rho", "nu"],
};

// `shape`: the last calib.v1.Surface of this underlying and model, `move`: calib.v1.SurfaceMove;
// both decoded. Neither is changed.
export function moved(shape, move) {
  if (!shape || shape.revision !== move.shapeRevision) {
    throw new Error(`a move of revision ${move.shapeRevision}, which was not sent`);
  }
  const scale = move.varianceScale;
  const certificate = { ...shape.certificate };
  if (scale !== 1) {
    certificate.butterflyMargin = scale < 1 ? certificate.butterflyMargin * scale : 0;
  }
  const spot = move.spot ?? shape.spot;
  const expiries = shape.expiries.map((one, i) => smile(one, move.forwardFactor[i], scale));
  return { ...shape, revision: move.revision, spot, certificate, expiries };
}

function smile(one, factor, scale) {
  const made = {
    ...one,
    forward: one.forward * factor,
    forwardError: one.forwardError * factor,
  };
  const model = one.parameters; // the name of the field that is set
  made[model] = times(one[model], SCALED[model], scale);
  if (one.anchor) {
    made.anchor = times(one.anchor, SCALED.essvi, scale);
  }
  if (one.covariance) {
    const by = NAMES[model].map((name) => (SCALED[model].includes(name) ? scale : 1));
    const values = one.covariance.values.map(
      (value, i) => value * by[Math.floor(i / by.length)] * by[i % by.length],
    );
    made.covariance = { ...one.covariance, values };
  }
  return made;
}

function times(parameters, names, scale) {
  const made = { ...parameters };
  for (const name of names) {
    made[name] *= scale;
  }
  return made;
}
