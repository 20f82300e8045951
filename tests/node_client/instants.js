// Instants as whole microseconds since 1970, which a double holds exactly for centuries.

// An instant from proto3 JSON (RFC 3339 text in UTC) or from a message ({seconds, nanos}).
export function instant(told) {
  if (typeof told !== "string") {
    return Number(told.seconds) * 1e6 + Math.floor(told.nanos / 1000);
  }
  const [, whole, fraction = ""] = /^(.*?)(?:\.(\d+))?Z$/.exec(told);
  return Date.parse(`${whole}Z`) * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

// The present.
export function now() {
  return Date.now() * 1000;
}
