// From counters that only grow to rates, and from histograms to quantiles; and how both are written.

/** Samples that are kept: two minutes. */
const KEEP = 61;
/** Workers report every second, so a rate over less than some samples is not steady. */
const WINDOW = 5;

/** The last samples of some counters. */
export class Meter {
  constructor() {
    this.times = [];
    this.samples = [];
  }

  /** Take what counters are at a time in seconds.  Counters that went down began anew. */
  push(time, values) {
    const last = this.samples.at(-1);
    const gap = time - this.times.at(-1);
    if (last && (gap <= 0 || gap > 60 || values.some((value, place) => value < last[place]))) {
      this.times.length = this.samples.length = 0;
    }
    this.times.push(time);
    this.samples.push(values);
    if (this.times.length > KEEP) {
      this.times.shift();
      this.samples.shift();
    }
  }

  /** How much each counter has grown in the last samples, and in how many seconds. */
  growth(window = WINDOW) {
    const from = Math.max(0, this.samples.length - 1 - window);
    const first = this.samples[from];
    const last = this.samples.at(-1);
    if (!first || first === last) return { seconds: 0, values: [] };
    const values = last.map((value, place) => value - (first[place] ?? 0));
    return { seconds: this.times.at(-1) - this.times[from], values };
  }

  /** Of one counter, how much it grows in a second; `null` until that is known. */
  rate(place, window = WINDOW) {
    const { seconds, values } = this.growth(window);
    return seconds ? values[place] / seconds : null;
  }

  /** The rates of one counter so far, oldest first, each over two samples. */
  rates(place) {
    const found = [];
    for (let index = 1; index < this.samples.length; index++) {
      const from = Math.max(0, index - 2);
      const grown = this.samples[index][place] - this.samples[from][place];
      found.push(grown / (this.times[index] - this.times[from]));
    }
    return found;
  }
}

/** The value below which the share `q` of what a histogram counts is; `null` if it counts nothing.
 * `bounds` are the upper ends of its buckets but for the last one, which has none. */
export function quantile(bounds, counts, q) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let left = q * all;
  for (const [place, count] of counts.entries()) {
    if (count && left <= count) {
      const low = place ? bounds[place - 1] : 0;
      const high = bounds[place];
      return high === undefined ? Infinity : low + ((high - low) * left) / count;
    }
    left -= count;
  }
  return Infinity;
}

const NONE = "–";

/** A number of few digits: 7, 12.3, 1.2k, 3.4M. */
export function short(value) {
  if (value === null || value === undefined) return NONE;
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size * 0.9995) return digits(value / size) + letter;
  }
  return digits(value);
}

function digits(value) {
  if (value >= 99.95 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(value >= 9.995 ? 1 : value >= 0.995 ? 1 : 2).replace(/\.?0+$/, "") || "0";
}

/** A number a second. */
export const perSecond = (value) => (value === null || value === undefined ? NONE : `${short(value)}/s`);

/** Seconds of few digits: 240 µs, 3.1 ms, 1.2 s, 3 h. */
export function seconds(value, most = null) {
  if (value === null || value === undefined) return NONE;
  if (value === Infinity) return most === null ? "∞" : `> ${seconds(most)}`;
  if (value < 0.001) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  if (value < 120) return `${digits(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} d`;
}

/** A share in percent. */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (value > 0 && value < 0.0005) return "< 0.1 %";
  return `${(value * 100).toFixed(value > 0 && value < 0.0995 ? 1 : 0)} %`;
}

/** A number of bytes. */
export const bytes = (value) => (value === null || value === undefined ? NONE : `${short(value)}B`);

/** A time of day, from epoch seconds. */
export function clock(value) {
  return new Date(value * 1000).toLocaleTimeString([], { hour12: false });
}
