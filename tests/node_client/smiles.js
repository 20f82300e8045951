// The smiles: total variance by log-moneyness, and its derivatives.
//
// Each model gives {w, slope, gradient} at k: total variance, its derivative by k, and its
// derivatives by the parameters in the order in which their message lists them.

// Nodes and weights of Gauss and Legendre, six points on [0, 1].
const NODES = [
  0.0337652428984239861, 0.169395306766867743, 0.380690406958401546, 0.619309593041598454,
  0.830604693233132257, 0.966234757101576014,
];
const WEIGHTS = [
  0.0856622461895851725, 0.180380786524069304, 0.233956967286345524, 0.233956967286345524,
  0.180380786524069304, 0.0856622461895851725,
];
// Below this |z| the closed form of x / z loses digits, and six points integrate it exactly.
const SMALL = 0.1;

function svi({ a, b, rho, m, sigma }, k) {
  const y = k - m;
  const root = Math.sqrt(y * y + sigma * sigma);
  return {
    w: a + b * (rho * y + root),
    slope: b * (rho + y / root),
    gradient: [1, rho * y + root, b * y, -b * (rho + y / root), (b * sigma) / root],
  };
}

function essvi({ theta, rho, psi }, k) {
  const u = psi * k + theta * rho;
  const root = Math.sqrt(u * u + theta * theta * (1 - rho * rho));
  return {
    w: 0.5 * (theta + rho * psi * k + root),
    slope: 0.5 * psi * (rho + u / root),
    gradient: [
      0.5 * (1 + (rho * u + theta * (1 - rho * rho)) / root),
      0.5 * (psi * k + (theta * u - theta * theta * rho) / root),
      0.5 * k * (rho + u / root),
    ],
  };
}

// Everything by logarithms: w is a product, and the derivative of ln w the sum of those of the
// logarithms of its factors.
function sabr({ alpha, beta, rho, nu }, k, years) {
  const c = 1 - beta;
  const e = Math.exp(0.5 * c * k);
  const l = c * k;
  const bend = 1 + (l * l) / 24 + l ** 4 / 1920;
  const bendByL = l / 12 + l ** 3 / 480;
  const z = (-nu / alpha) * e * k;
  const g = arcOverChord(z, rho);
  const drift =
    (c * c * alpha * alpha) / (24 * e * e) +
    (rho * beta * nu * alpha) / (4 * e) +
    ((2 - 3 * rho * rho) * nu * nu) / 24;
  const time = 1 + years * drift;
  const vol = (alpha / (e * bend * g.value)) * time;
  const w = vol * vol * years;

  // d ln w = 2 (d ln alpha - d ln e - d ln bend - d ln g + d ln time)
  const byAlpha =
    1 / alpha +
    ((g.byZ / g.value) * z) / alpha +
    (years * ((c * c * alpha) / (12 * e * e) + (rho * beta * nu) / (4 * e))) / time;
  const byBeta =
    0.5 * k +
    (k * bendByL) / bend +
    ((g.byZ / g.value) * z * k) / 2 +
    (years *
      ((c * alpha * alpha * (c * k - 2)) / (24 * e * e) +
        (rho * nu * alpha * (1 + 0.5 * beta * k)) / (4 * e))) /
      time;
  const byRho =
    -g.byRho / g.value + (years * ((beta * nu * alpha) / (4 * e) - (rho * nu * nu) / 4)) / time;
  const byNu =
    ((g.byZ / g.value) * e * k) / alpha +
    (years * ((rho * beta * alpha) / (4 * e) + ((2 - 3 * rho * rho) * nu) / 12)) / time;
  const zByK = (-nu / alpha) * e * (1 + 0.5 * c * k);
  const byK =
    -0.5 * c -
    (c * bendByL) / bend -
    (g.byZ / g.value) * zByK -
    (years * ((c * c * c * alpha * alpha) / (24 * e * e) + (c * rho * beta * nu * alpha) / (8 * e))) /
      time;
  return {
    w,
    slope: 2 * w * byK,
    gradient: [byAlpha, byBeta, byRho, byNu].map((one) => 2 * w * one),
  };
}

// x / z and its derivatives, where x is the integral of 1 / sqrt(1 - 2 rho t + t^2) from 0 to z.
function arcOverChord(z, rho) {
  if (Math.abs(z) < SMALL) {
    let value = 0;
    let byZ = 0;
    let byRho = 0;
    NODES.forEach((s, i) => {
      const t = s * z;
      const q = 1 - 2 * rho * t + t * t;
      const part = WEIGHTS[i] / Math.sqrt(q);
      value += part;
      byZ += (part * s * (rho - t)) / q;
      byRho += (part * t) / q;
    });
    return { value, byZ, byRho };
  }
  if (z < 0) {
    const mirrored = arcOverChord(-z, -rho); // x(z; rho) = -x(-z; -rho)
    return { value: mirrored.value, byZ: -mirrored.byZ, byRho: -mirrored.byRho };
  }
  // Two forms of one logarithm, each free of cancellation on its side of rho.
  const root = Math.sqrt(1 - 2 * rho * z + z * z);
  let x;
  let xByRho;
  if (z >= rho) {
    const sum = root + z - rho;
    x = Math.log(sum / (1 - rho));
    xByRho = 1 / (1 - rho) - (z / root + 1) / sum;
  } else {
    const sum = root + rho - z;
    x = Math.log((1 + rho) / sum);
    xByRho = 1 / (1 + rho) - (1 - z / root) / sum;
  }
  return { value: x / z, byZ: (1 / root - x / z) / z, byRho: xByRho / z };
}

export const MODELS = {
  MODEL_SVI: { field: "svi", names: ["a", "b", "rho", "m", "sigma"], formula: svi },
  MODEL_ESSVI: { field: "essvi", names: ["theta", "rho", "psi"], formula: essvi },
  MODEL_SABR: { field: "sabr", names: ["alpha", "beta", "rho", "nu"], formula: sabr },
};
