// A surface and its values, by the numbered steps of the comments on calib.v1.Surface.

import { instant } from "./instants.js";
import { MODELS } from "./smiles.js";

const MICROSECONDS_PER_YEAR = 365 * 86400 * 1e6;
const STEEPEST = 1.95;
const DISTANCES = [0, 0.5, 1, 2, 4, 8];
const EDGE = 1e-12;

export class Surface {
  // `message`: calib.v1.Surface, decoded or in proto3 JSON, in which defaults may be absent.
  constructor(message) {
    const model = MODELS[message.model];
    if (model === undefined) {
      throw new Error(`a surface of the unknown model ${message.model}`);
    }
    this.underlying = message.underlying;
    this.quoteTime = instant(message.quoteTime);
    this.independent = message.calendar === "EXPIRY_CALENDAR_INDEPENDENT";
    this.spot = message.spot === undefined || message.spot === null ? null : message.spot;
    this.smiles = (message.expiries ?? []).map((one) => new Smile(model, one));
    const fitted = new Set(this.smiles.map((one) => one.years));
    const knots = (message.varianceClock ?? [])
      .map((knot) => [number(knot.years), number(knot.varianceTime)])
      .filter(([years]) => !fitted.has(years));
    this.clock = [[0, 0], ...this.smiles.map((one) => [one.years, one.varianceTime]), ...knots];
    this.clock.sort(([one], [other]) => one - other);
  }

  // Step 1. `time`: an instant in microseconds since 1970.
  years(time) {
    return (time - this.quoteTime) / MICROSECONDS_PER_YEAR;
  }

  // All values at a strike and `t` years from the quote time; null where there is none, and
  // {notFitted: true} where the surface has no such expiry.
  values(strike, t) {
    const at = this.smiles.findIndex((one) => one.years === t);
    if (this.smiles.length === 0 || (this.independent && at < 0 && t >= 0)) {
      return { notFitted: true };
    }
    const place = this.place(t, at);
    const forward = t < 0 ? NaN : this.forward(t, place);
    const k = strike > 0 && Number.isFinite(strike) ? Math.log(strike / forward) : NaN;
    const w = this.totalVariance(k, t, place);
    const volatility = t === 0 ? NaN : Math.sqrt(w / t);
    const none = (value) => (Number.isFinite(value) ? value : null);
    return {
      forward: none(forward),
      discountFactor: t < 0 ? null : none(this.discountFactor(t, at)),
      logMoneyness: none(k),
      totalVariance: none(w),
      impliedVol: none(volatility),
      volError: Number.isNaN(volatility) ? null : none(mixed(place, (one) => one.error(k))),
      extrapolated: this.extrapolated(k, t, place),
    };
  }

  // The smiles on either side of t, the same one twice at and outside the fitted expiries, and
  // the share of the way from one to the other in variance time.
  place(t, at) {
    if (at >= 0) {
      return { one: this.smiles[at], other: this.smiles[at], share: 0 };
    }
    const last = this.smiles.length - 1;
    const next = this.smiles.findIndex((smile) => t < smile.years);
    if (next <= 0) {
      const nearest = this.smiles[next < 0 ? last : 0];
      return { one: nearest, other: nearest, share: 0 };
    }
    const [one, other] = [this.smiles[next - 1], this.smiles[next]];
    const share =
      (this.varianceTime(t) - one.varianceTime) / (other.varianceTime - one.varianceTime);
    return { one, other, share };
  }

  // Step 2.
  varianceTime(t) {
    const [lastTime, lastVariance] = this.clock[this.clock.length - 1];
    return t > lastTime ? lastVariance + (t - lastTime) : linear(this.clock, t);
  }

  // Step 3.
  forward(t, { one, other }) {
    const last = this.smiles[this.smiles.length - 1];
    if (t === one.years) {
      return one.forward;
    }
    if (one !== other) {
      const points = [one, other].map((smile) => [smile.years, Math.log(smile.forward)]);
      return Math.exp(linear(points, t));
    }
    if (this.spot === null) {
      return one.forward;
    }
    const points = [
      [0, Math.log(this.spot)],
      [one.years, Math.log(one.forward)],
    ];
    if (one !== last || t < one.years) {
      return Math.exp(linear(points, t));
    }
    return Math.exp(points[1][1] + ((t - one.years) * (points[1][1] - points[0][1])) / one.years);
  }

  // Step 4.
  discountFactor(t, at) {
    if (at >= 0) {
      return this.smiles[at].discountFactor;
    }
    const last = this.smiles[this.smiles.length - 1];
    if (t > last.years) {
      return Math.exp((Math.log(last.discountFactor) * t) / last.years);
    }
    const points = this.smiles.map((smile) => [smile.years, Math.log(smile.discountFactor)]);
    return Math.exp(linear([[0, 0], ...points], t));
  }

  // Step 6.
  totalVariance(k, t, place) {
    const [first, last] = [this.smiles[0], this.smiles[this.smiles.length - 1]];
    if (t < first.years) {
      return (first.w(k) * this.varianceTime(t)) / first.varianceTime;
    }
    if (t > last.years) {
      return last.w(k) + (this.varianceTime(t) / last.varianceTime - 1) * last.w(0);
    }
    return mixed(place, (one) => one.w(k));
  }

  // Step 9.
  extrapolated(k, t, place) {
    const low = mixed(place, (one) => one.low);
    const high = mixed(place, (one) => one.high);
    const beyond = t < this.smiles[0].years || t > this.smiles[this.smiles.length - 1].years;
    return beyond || !(k >= low - EDGE && k <= high + EDGE);
  }
}

class Smile {
  constructor(model, message) {
    this.expiry = instant(message.expiry);
    this.years = number(message.years);
    this.varianceTime = number(message.varianceTime);
    this.forward = number(message.forward);
    this.discountFactor = number(message.discountFactor);
    this.low = number(message.logMoneynessMin);
    this.high = number(message.logMoneynessMax);
    const given = message[model.field] ?? {};
    const parameters = Object.fromEntries(model.names.map((name) => [name, number(given[name])]));
    this.at = (k) => model.formula(parameters, k, this.years);
    this.continued = model.field === "sabr";
    this.forwardError = number(message.forwardError);
    this.covariance = (message.covariance?.values ?? []).map(number);
  }

  // The formula, and for SABR its continuation outside the quoted range.
  w(k) {
    if (!this.continued || Number.isNaN(k) || (k >= this.low && k <= this.high)) {
      return this.at(k).w;
    }
    const left = k < this.low;
    const edge = left ? this.low : this.high;
    const { w, slope } = this.at(edge);
    const [least, most] = left ? [-STEEPEST, 0] : [0, STEEPEST];
    return w + (k - edge) * Math.min(Math.max(slope, least), most);
  }

  // Step 10, NaN where it is not known.
  error(k) {
    if (this.covariance.length === 0 || Number.isNaN(k)) {
      return NaN;
    }
    if (k >= this.low && k <= this.high) {
      return this.errorOfFormula(k);
    }
    const way = k < this.low ? -1 : 1;
    const edge = way < 0 ? this.low : this.high;
    const width = Math.sqrt(this.w(0));
    let largest = NaN;
    const points = DISTANCES.map((distance) => {
      const error = this.errorOfFormula(edge + way * distance * width);
      if (!(error <= largest)) {
        largest = Number.isNaN(error) ? largest : error;
      }
      return [distance, largest];
    });
    return linear(points, Math.min(Math.abs(k - edge) / width, DISTANCES[DISTANCES.length - 1]));
  }

  errorOfFormula(k) {
    const { w, slope, gradient } = this.at(k);
    let variance = ((slope * this.forwardError) / this.forward) ** 2;
    gradient.forEach((one, i) => {
      gradient.forEach((other, j) => {
        variance += one * this.covariance[i * gradient.length + j] * other;
      });
    });
    return Math.sqrt(variance) / (2 * Math.sqrt(w * this.years));
  }
}

// A value of both smiles of a place, linear in variance time.
function mixed({ one, other, share }, value) {
  const first = value(one);
  return one === other ? first : first + share * (value(other) - first);
}

// Linear between points in order, constant outside them.
function linear(points, x) {
  const next = points.findIndex(([end]) => x <= end);
  if (next <= 0) {
    return points[next < 0 ? points.length - 1 : 0][1];
  }
  const [[x0, y0], [x1, y1]] = [points[next - 1], points[next]];
  return y0 + ((x - x0) / (x1 - x0)) * (y1 - y0);
}

// A double of a message or of proto3 JSON, where absent is 0 and what is no number is text.
function number(told) {
  return told === undefined ? 0 : Number(told);
}
