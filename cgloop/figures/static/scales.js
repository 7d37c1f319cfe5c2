"use strict";
// Scales, ticks and numbers: what every plot needs before anything is drawn. The scripts of the page share `cg`.
const cg = {};
(() => {
  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const minus = (text) => text.replace("-", "−");
  const raised = (exponent) => [...String(exponent)].map((c) => SUPERSCRIPT[c]).join("");

  // `1,234`, `0.0123`, `4.5 × 10⁻⁷`: so many significant digits.
  cg.number = (value, digits = 4) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "not a number";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
      const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
      return minus(`${String(Number(mantissa))} × 10${raised(Number(exponent))}`);
    }
    return minus(Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 8 }));
  };

  // Round values between two ends, about `count` of them.
  cg.ticks = (low, high, count, wanted) => {
    const rough = (high - low) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = wanted || power * [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    const decimals = Math.max(0, Math.min(9, -Math.floor(Math.log10(step) + 1e-9)));
    const large = Math.max(Math.abs(low), Math.abs(high));
    const text = (value) => (large < 1e-3 || large >= 1e6) ? cg.number(value, 3)
      : minus(value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
    return found.map((value) => [value, value === 0 && large < 1e-3 ? "0" : text(value)]);
  };

  // Powers of ten; within one or two of them also 2 and 5 times these.
  cg.logTicks = (low, high, count) => {
    const first = Math.floor(Math.log10(low) + 1e-9), last = Math.ceil(Math.log10(high) - 1e-9);
    const plain = (value) => value >= 1e-3 && value < 1e5 ? cg.number(value, 3) : `10${raised(Math.round(Math.log10(value)))}`;
    const found = [];
    if (last - first <= 2) {
      for (let k = first; k <= last; k++) for (const m of [1, 2, 5]) found.push(m * 10 ** k);
      const inside = found.filter((v) => v >= low * 0.999 && v <= high * 1.001);
      // Less than one octave: as on a linear axis.
      return inside.length > 1 ? inside.map((v) => [v, cg.number(v, 3)]) : cg.ticks(low, high, count);
    }
    const every = Math.max(1, Math.ceil((last - first) / count));
    for (let k = Math.ceil(first / every) * every; k <= last; k += every) found.push(10 ** k);
    return found.filter((v) => v >= low * 0.999 && v <= high * 1.001).map((v) => [v, plain(v)]);
  };

  // From values to pixels: `at(value)`, and the ends and ticks of the axis.
  cg.scale = (axis, values, from, to, count) => {
    const names = axis.names;
    const place = (v) => typeof v === "string" ? names.indexOf(v) : v;
    let [low, high] = axis.range || [null, null];
    if (low === null) {
      if (names) [low, high] = [-0.5, names.length - 0.5];
      else [low, high] = extent(values.map(place), axis);
    }
    const [a, b] = axis.reversed ? [to, from] : [from, to];
    const [l, h] = axis.log ? [Math.log(low), Math.log(high)] : [low, high];
    const at = (value) => {
      const v = place(value);
      return a + (b - a) * ((axis.log ? Math.log(v) : v) - l) / (h - l);
    };
    let ticks;
    if (axis.ticks) ticks = axis.ticks;
    else if (names) ticks = names.map((name, k) => [k, name]);
    else if (axis.log) ticks = cg.logTicks(low, high, count);
    else ticks = cg.ticks(low, high, count, axis.step);
    return { at, place, low, high, ticks, names, axis };
  };

  function extent(values, axis) {
    let low = Infinity, high = -Infinity;
    for (const v of values) if (v !== null && Number.isFinite(v) && (!axis.log || v > 0)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return axis.log ? [1, 10] : [0, 1];
    if (axis.log) return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.06, high * (high / low) ** 0.06];
    if (low === high) { const room = Math.abs(low) * 0.1 || 1; low -= room; high += room; }
    const room = 0.05 * (high - low);
    if (axis.zero && low >= 0) return [0, high + room];
    return [low - (axis.tight ? 0 : room), high + (axis.tight ? 0 : room)];
  }

  // A value of an axis in words: its name, its tick, or number and unit.
  cg.inWords = (scale, value) => {
    const v = scale.place(value), { axis } = scale;
    if (scale.names) return scale.names[Math.round(v)] ?? cg.number(v);
    const named = axis.ticks && axis.ticks.find(([at]) => at === v);
    if (named) return named[1];
    const unit = axis.label.includes(", ") ? axis.label.slice(axis.label.lastIndexOf(", ") + 2) : "";
    return `${cg.number(v)} ${unit}`.trim();
  };
})();
