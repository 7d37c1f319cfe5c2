"use strict";
// Marks: lines, points, bars, boxes and maps in the pixels that scales give. Each also says what is where, for pointing.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const DASH = { solid: null, dash: "6 4", dot: "1.6 3.6", dashdot: "7 3.5 1.6 3.5", longdash: "11 4.5", longdashdot: "11 4 1.6 4" };
  const round = (v) => Math.round(v * 10) / 10;

  cg.element = (name, attributes, parent, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  cg.dash = (name) => DASH[name] ?? null;
  cg.role = (mark) => `c-${mark.role || "ink"}`;

  // Parts of a series without gaps, in pixels.
  function runs(xs, ys, X, Y) {
    const found = [];
    let open = null;
    xs.forEach((x, k) => {
      const y = ys[k];
      if (x === null || y === null || y === undefined || (Y.axis.log && y <= 0)) { open = null; return; }
      if (!open) found.push(open = []);
      open.push([round(X.at(x)), round(Y.at(y))]);
    });
    return found;
  }

  const joined = (run, step) => run.map(([x, y], k) => {
    if (!k) return `M${x},${y}`;
    return step ? `H${round((run[k - 1][0] + x) / 2)}V${y}H${x}` : `L${x},${y}`;
  }).join("");

  function line(mark, X, Y, layer, hits) {
    const parts = runs(mark.x, mark.y, X, Y);
    if (mark.error && mark.error.length) {
      const up = runs(mark.x, mark.y.map((v, k) => v === null ? null : v + mark.error[k]), X, Y);
      const down = runs(mark.x, mark.y.map((v, k) => v === null ? null : v - mark.error[k]), X, Y);
      const strip = up.map((run, k) => joined(run) + [...(down[k] || [])].reverse().map(([x, y]) => `L${x},${y}`).join("") + "Z").join("");
      cg.element("path", { d: strip, class: `area ${cg.role(mark)}` }, layer);
    }
    if (mark.fill) {
      const base = round(Y.at(Math.max(Y.low, Math.min(Y.high, 0))));
      const area = parts.map((run) => `${joined(run, mark.step)}V${base}H${run[0][0]}Z`).join("");
      cg.element("path", { d: area, class: `area ${cg.role(mark)}` }, layer);
    }
    cg.element("path", {
      d: parts.map((run) => joined(run, mark.step)).join(""), class: `line ${cg.role(mark)}`, "stroke-width": mark.width || 2,
      "stroke-dasharray": cg.dash(mark.dash), "stroke-opacity": mark.opacity,
    }, layer);
    if (mark.dots) parts.flat().forEach(([x, y]) => symbol("circle", x, y, 3, mark, layer));
    mark.x.forEach((x, k) => hit(hits, mark, X, Y, x, mark.y[k], k));
  }

  function hit(hits, mark, X, Y, x, y, k) {
    if (x === null || y === null || y === undefined) return;
    const error = mark.error && mark.error[k] != null ? ` ± ${cg.number(mark.error[k], 2)}` : "";
    const words = mark.text ? mark.text[k] : `${cg.inWords(X, x)}: ${cg.inWords(Y, y)}${error}`;
    hits.push({ x: X.at(x), y: Y.at(y), name: mark.name, words, role: cg.role(mark) });
  }

  const SHAPES = {
    circle: (r) => `M${-r},0A${r},${r} 0 1 0 ${r},0A${r},${r} 0 1 0 ${-r},0Z`,
    square: (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
    diamond: (r) => `M0,${-1.3 * r}L${1.3 * r},0L0,${1.3 * r}L${-1.3 * r},0Z`,
    triangle: (r) => `M0,${-1.2 * r}L${1.15 * r},${0.9 * r}H${-1.15 * r}Z`,
    x: (r) => `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`,
    star: (r) => "M" + [...Array(10).keys()].map((k) => {
      const size = k % 2 ? 0.6 * r : 1.5 * r, angle = Math.PI * (k / 5 - 0.5);
      return `${round(size * Math.cos(angle))},${round(size * Math.sin(angle))}`;
    }).join("L") + "Z",
  };

  function symbol(name, x, y, size, mark, layer) {
    const open = name.endsWith("-open") || name === "x", shape = SHAPES[name.replace("-open", "")] || SHAPES.circle;
    return cg.element("path", { d: shape(size), transform: `translate(${round(x)},${round(y)})`, class: `${open ? "open" : "solid"} glyph ${cg.role(mark)}` }, layer);
  }
  cg.symbol = symbol;

  function points(mark, X, Y, layer, hits, cell) {
    mark.x.forEach((x, k) => {
      const y = mark.y[k];
      if (x === null || y === null || y === undefined) return;
      const [px, py] = [X.at(x), Y.at(y)], [vx, vy] = [X.place(x), Y.place(y)];
      if (vx < X.low || vx > X.high || vy < Y.low || vy > Y.high) return;
      const bar = (dx, dy) => cg.element("path", { d: `M${round(px - dx)},${round(py - dy)}L${round(px + dx)},${round(py + dy)}`, class: `whisker ${cg.role(mark)}` }, layer);
      const e = mark.error && mark.error[k], ex = mark.error_x && mark.error_x[k];
      if (e) bar(0, Math.abs(Y.at(Y.place(y) + e) - py));
      if (ex) bar(Math.abs(X.at(X.place(x) + ex) - px), 0);
      symbol(mark.symbol, px, py, mark.cell ? 0.5 * cell - 1 : mark.size || 4, mark, layer);
      if (!mark.cell) hit(hits, mark, X, Y, x, y, k);
    });
  }

  function bars(mark, X, Y, layer, hits, group) {
    const [along, other] = mark.across ? [Y, X] : [X, Y];
    const places = (mark.across ? mark.y : mark.x).map(along.place), sizes = mark.across ? mark.x : mark.y;
    const apart = along.names ? 1 : places.length > 1 ? Math.min(...places.slice(1).map((p, k) => Math.abs(p - places[k]))) : 1;
    const unit = Math.abs(along.at(apart) - along.at(0));
    const width = Math.min((mark.across ? 0.6 : 0.84) * unit / group.count, 46), offset = (group.index - 0.5 * (group.count - 1)) * width;
    const base = other.at(Math.max(other.low, Math.min(other.high, 0)));
    places.forEach((p, k) => {
      if (sizes[k] === null || sizes[k] === undefined) return;
      const middle = along.at(p) + offset, end = other.at(sizes[k]);
      const [low, high] = [Math.min(base, end), Math.max(base, end)];
      const box = mark.across ? { x: low, y: middle - width / 2, width: high - low, height: width - 1 } : { x: middle - width / 2, y: low, width: width - 1, height: high - low };
      const role = mark.roles ? `c-${mark.roles[k]}` : cg.role(mark);
      cg.element("rect", { x: round(box.x), y: round(box.y), width: round(Math.max(0.5, box.width)), height: round(Math.max(0.5, box.height)), class: `bar ${role}` }, layer);
      if (mark.error && mark.error[k]) {
        const [a, b] = [other.at(sizes[k] - mark.error[k]), other.at(sizes[k] + mark.error[k])].map(round), m = round(middle);
        cg.element("path", { d: mark.across ? `M${a},${m}H${b}` : `M${m},${a}V${b}`, class: "whisker c-ink" }, layer);
      }
      const words = mark.text ? mark.text[k] : `${cg.inWords(along, p)}: ${cg.inWords(other, sizes[k])}${mark.error && mark.error[k] ? ` ± ${cg.number(mark.error[k], 2)}` : ""}`;
      hits.push({ x: mark.across ? end : middle, y: mark.across ? middle : end, name: mark.name, words, role });
    });
  }

  function box(mark, X, Y, layer, hits) {
    const [low, first, median, third, high] = mark.values.map((v) => round(Y.at(v))), x = round(X.at(mark.at)), w = 22;
    cg.element("path", { d: `M${x},${low}V${first}M${x},${third}V${high}M${x - w / 2},${low}h${w}M${x - w / 2},${high}h${w}`, class: `whisker ${cg.role(mark)}` }, layer);
    cg.element("rect", { x: x - w, y: third, width: 2 * w, height: Math.max(0.5, first - third), class: `box ${cg.role(mark)}` }, layer);
    cg.element("path", { d: `M${x - w},${median}h${2 * w}`, class: `line ${cg.role(mark)}`, "stroke-width": 2.5 }, layer);
    hits.push({ x, y: median, name: mark.name, words: `median ${cg.inWords(Y, mark.values[2])}`, role: cg.role(mark) });
  }

  // Colours of a scale, from the style sheet; they are others in the dark and on paper.
  const known = new Map();
  cg.forgetColours = () => known.clear();
  cg.colours = (kind) => {
    if (!known.has(kind)) known.set(kind, scaleOf(kind));
    return known.get(kind);
  };

  function scaleOf(kind) {
    const name = kind === "diverging" ? "div" : "seq", count = kind === "diverging" ? 5 : 4;
    const probe = document.createElement("i");
    document.body.append(probe);
    const stops = [...Array(count).keys()].map((k) => {
      probe.style.color = `var(--${name}-${k})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    });
    probe.remove();
    if (kind.endsWith("reversed")) stops.reverse();
    return (part) => {
      const p = Math.max(0, Math.min(1, part)) * (count - 1), k = Math.min(count - 2, Math.floor(p));
      return stops[k].map((c, i) => Math.round(c + (p - k) * (stops[k + 1][i] - c)));
    };
  }

  // A picture of a matrix, enlarged without smoothing, so that printers and viewers do not blur it.
  cg.picture = (rows, colour, flipX, flipY) => {
    const [h, w] = [rows.length, rows[0].length], big = Math.max(1, Math.floor(360 / Math.max(h, w)));
    const small = document.createElement("canvas"), large = document.createElement("canvas");
    [small.width, small.height, large.width, large.height] = [w, h, w * big, h * big];
    const pen = small.getContext("2d"), data = pen.createImageData(w, h);
    rows.forEach((row, i) => row.forEach((v, j) => {
      if (v === null) return;
      const at = 4 * ((flipY ? h - 1 - i : i) * w + (flipX ? w - 1 - j : j));
      data.data.set([...colour(v), 255], at);
    }));
    pen.putImageData(data, 0, 0);
    const out = large.getContext("2d");
    out.imageSmoothingEnabled = false;
    out.drawImage(small, 0, 0, w * big, h * big);
    return large.toDataURL();
  };

  function map(mark, X, Y, layer, hits) {
    const xs = mark.x.map(X.place), ys = mark.y.map(Y.place), [low, high] = mark.ends;
    const half = (v) => v.length > 1 ? 0.5 * Math.abs(v[1] - v[0]) : 0.5;
    const [dx, dy] = [half(xs), half(ys)];
    const edges = (scale, v, d) => [scale.at(Math.min(...v) - d), scale.at(Math.max(...v) + d)];
    const [x0, x1] = edges(X, xs, dx), [y0, y1] = edges(Y, ys, dy);
    const colour = cg.colours(mark.colors);
    const flip = (v, a, b) => (v[v.length - 1] >= v[0]) !== (b >= a);
    const href = cg.picture(mark.z, (v) => colour((v - low) / (high - low)), flip(xs, x0, x1), flip(ys, y0, y1));
    cg.element("image", { href, x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0), preserveAspectRatio: "none", class: "picture" }, layer);
    hits.cell = (px, py) => {
      const nearest = (scale, v, p) => v.reduce((best, one, k) => Math.abs(scale.at(one) - p) < Math.abs(scale.at(v[best]) - p) ? k : best, 0);
      const [i, j] = [nearest(Y, ys, py), nearest(X, xs, px)], value = mark.z[i][j];
      const more = mark.extra ? `, ${cg.number(mark.extra.values[i][j])} ${mark.extra.label}` : "";
      return { x: X.at(xs[j]), y: Y.at(ys[i]), name: `${cg.inWords(X, xs[j])} – ${cg.inWords(Y, ys[i])}`, words: value === null ? "no value" : `${mark.label}: ${cg.number(value, 3)}${more}`, role: "c-ink" };
    };
  }

  cg.draw = { line, points, bars, box, map };
})();
