"use strict";
// One figure: panels, axes, lines across, legend and pointing. Drawn anew whenever its place gets another width.
(() => {
  const { element } = cg;
  const TEXT = 12, CHAR = 6.6, RIGHT = 14, TICKS = 22, LABEL = 20, TITLE = 20, GAP = 30, WIDEST_MAP = 440;
  const ruler = document.createElement("canvas").getContext("2d");
  const widthOf = (text) => ruler.measureText(text).width;

  function draw(place, figure, width) {
    place.replaceChildren();
    const key = legend(figure);
    if (key || besideLegend(place)) place.append(key || emptyLegend());
    const maps = figure.marks.filter((mark) => mark.mark === "map");
    const svg = element("svg", { class: "figure", "aria-hidden": "true" }, place);
    const box = boxOf(figure, width, maps);
    svg.setAttribute("viewBox", `0 0 ${width} ${box.height}`);
    svg.setAttribute("height", box.height);
    const hits = [];
    const X = cg.scale(figure.x, valuesOf(figure, "x"), box.left, box.right, Math.max(2, (box.right - box.left) / 75));
    box.panels.forEach((panel, k) => drawPanel(svg, figure, panel, X, box, k === box.panels.length - 1, hits));
    maps.slice(0, 1).forEach((mark) => colourBar(svg, mark, box));
    point(place, svg, hits, box, width);
  }

  // Where things are: margins from the longest tick, one or two panels above each other.
  function boxOf(figure, width, maps) {
    const panelAxes = figure.upper ? [["upper", figure.upper], ["y", figure.y]] : [["y", figure.y]];
    // However many ticks there will be, their texts have room.
    const texts = (axis, name) => axis.ticks || [3, 6, 12].flatMap((count) => cg.scale(axis, valuesOf(figure, name), 100, 0, count).ticks);
    const sample = (axis, name) => axis.names || texts(axis, name).map(([, text]) => text);
    const widest = Math.max(...panelAxes.flatMap(([name, axis]) => sample(axis, name).map((text) => widthOf(String(text)))), 8);
    const left = Math.ceil(Math.min(widest, 0.38 * width) + 10);
    const top = (axis) => axis.label ? TITLE : 6;
    const below = TICKS + (figure.x.label ? LABEL : 0), bar = maps.length ? 46 : 0;
    let right = width - RIGHT, height = figure.height;
    if (figure.square && maps.length) {
      const side = Math.min(right - left, WIDEST_MAP);
      right = left + side;
      height = top(figure.y) + Math.round(side * maps[0].y.length / maps[0].x.length) + below + bar;
    }
    const panels = [];
    if (figure.upper) {
      const free = height - top(figure.upper) - top(figure.y) - GAP + 12 - below - bar, first = Math.round(0.55 * free);
      panels.push({ name: "upper", axis: figure.upper, y0: top(figure.upper), y1: top(figure.upper) + first });
      const start = top(figure.upper) + first + GAP - 12 + top(figure.y);
      panels.push({ name: "y", axis: figure.y, y0: start, y1: height - below - bar });
    } else panels.push({ name: "y", axis: figure.y, y0: top(figure.y), y1: height - below - bar });
    return { left, right, height, panels, below };
  }

  // All values along one axis that it has to make room for.
  function valuesOf(figure, name) {
    const found = [];
    const add = (...values) => found.push(...values.filter((v) => v !== null && v !== undefined));
    for (const mark of figure.marks) {
      const panel = mark.upper ? "upper" : "y";
      if (name !== "x" && panel !== name) continue;
      if (mark.mark === "box") { if (name === "y") add(...mark.values); continue; }
      const values = mark[name === "x" ? "x" : "y"], error = name === "x" ? mark.error_x : mark.error;
      if (error && error.length) values.forEach((v, k) => { if (typeof v === "number" && error[k] != null) add(v - error[k], v + error[k]); });
      add(...values);
      if (mark.fill && name !== "x") add(0);
      if (mark.mark === "bars" && (mark.across ? name === "x" : name !== "x")) add(0);
      if (mark.mark === "bars" && !mark.across && name === "x" && typeof values[0] === "number") {
        const half = values.length > 1 ? 0.5 * Math.abs(values[1] - values[0]) : 0.5;
        add(Math.min(...values) - half, Math.max(...values) + half);
      }
    }
    for (const one of figure.levels || []) if ((one.axis === "x") === (name === "x") && (name === "x" || (one.upper ? "upper" : "y") === name)) add(one.value);
    if (name === "y") for (const one of figure.bands || []) add(...one.y);
    return found;
  }

  function drawPanel(svg, figure, panel, X, box, last, hits) {
    const { y0, y1, axis } = panel, { left, right } = box;
    const Y = cg.scale(axis, valuesOf(figure, panel.name), y1, y0, Math.max(2, (y1 - y0) / 32));
    // Names run from above; a map's rows do so too if the axis says `reversed`.
    if (axis.names && !axis.range) { const at = Y.at; Y.at = (v) => y0 + y1 - at(v); }
    const maps = figure.marks.some((mark) => mark.mark === "map");
    if (maps) element("rect", { x: left, y: y0, width: right - left, height: y1 - y0, class: "void" }, svg);
    const grid = element("g", { class: "axes" }, svg);
    if (axis.label) element("text", { x: 0, y: y0 - 8, class: "title" }, grid, axis.label);
    drawTicks(grid, X, Y, box, panel, last, maps);
    const layer = element("g", { "clip-path": clip(svg, left, y0, right - left, y1 - y0) }, svg);
    const over = element("g", {}, svg);
    if (panel.name === "y") for (const one of figure.bands || []) drawBand(layer, one, Y, left, right);
    const mine = figure.marks.filter((mark) => (mark.upper ? "upper" : "y") === panel.name);
    const groups = mine.filter((mark) => mark.mark === "bars"), cell = maps ? (right - left) / mine.find((m) => m.mark === "map").x.length : 0;
    for (const mark of mine) {
      // Symbols at the rim are drawn in full, those beyond it not at all.
      const target = mark.mark === "points" ? over : layer;
      const group = { index: groups.indexOf(mark), count: groups.length };
      cg.draw[mark.mark](mark, X, Y, target, hits, mark.mark === "bars" ? group : cell);
    }
    for (const one of figure.levels || []) if ((one.upper ? "upper" : "y") === panel.name || (one.axis === "x" && !figure.upper)) drawLevel(over, one, X, Y, box, panel);
  }

  let clips = 0;
  function clip(svg, x, y, width, height) {
    const id = `clip-${clips++}`;
    element("rect", { x, y: y - 1, width, height: height + 2 }, element("clipPath", { id }, svg));
    return `url(#${id})`;
  }

  function drawTicks(grid, X, Y, box, { y0, y1, axis }, last, maps) {
    const { left, right } = box;
    for (const [value, text] of Y.ticks) {
      const y = Math.round(Y.at(value)) + 0.5;
      if (y < y0 - 1 || y > y1 + 1) continue;
      if (!maps && axis.grid !== false) element("path", { d: `M${left},${y}H${right}`, class: "grid" }, grid);
      element("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, grid, shortened(String(text), left - 8));
    }
    // Where texts would touch, every second, third, … of them is written.
    const shown = X.ticks.filter(([value]) => X.at(value) >= left - 1 && X.at(value) <= right + 1);
    const widest = Math.max(...shown.map(([, t]) => widthOf(String(t))), 1) + 8;
    const apart = shown.length > 1 ? Math.abs(X.at(shown[shown.length - 1][0]) - X.at(shown[0][0])) / (shown.length - 1) : Infinity;
    const every = Math.max(1, Math.ceil(widest / apart));
    shown.forEach(([value, text], k) => {
      const x = Math.round(X.at(value)) + 0.5;
      if (!maps && X.axis.grid !== false && !X.names) element("path", { d: `M${x},${y0}V${y1}`, class: "grid" }, grid);
      if (!last || k % every) return;
      if (!maps && !X.names) element("path", { d: `M${x},${y1}v4`, class: "tick" }, grid);
      const half = widthOf(String(text)) / 2, shift = Math.min(0, right + RIGHT - 1 - x - half);
      element("text", { x: x + shift, y: y1 + 17, "text-anchor": "middle" }, grid, text);
    });
    if (!maps) element("path", { d: `M${left},${y1 + 0.5}H${right}`, class: "tick" }, grid);
    if (last && X.axis.label) element("text", { x: (left + right) / 2, y: y1 + TICKS + 14, class: "title", "text-anchor": "middle" }, grid, X.axis.label);
  }

  function shortened(text, room) {
    if (widthOf(text) <= room) return text;
    return `${text.slice(0, Math.max(1, Math.floor(room / CHAR) - 1))}…`;
  }

  function drawBand(layer, { y, role }, Y, left, right) {
    const [a, b] = [Y.at(y[0]), Y.at(y[1])];
    element("rect", { x: left, y: Math.min(a, b), width: right - left, height: Math.abs(a - b), class: `band c-${role}` }, layer);
  }

  function drawLevel(layer, { axis, value, label, dash, role, low }, X, Y, box, { y0, y1 }) {
    const { left, right } = box;
    if (axis === "x") {
      const x = Math.round(X.at(value)) + 0.5;
      element("path", { d: `M${x},${y0}V${y1}`, class: `line c-${role}`, "stroke-width": 1.5, "stroke-dasharray": cg.dash(dash) }, layer);
      const end = x + 6 + widthOf(label) > right;
      element("text", { x: end ? x - 5 : x + 5, y: low ? y1 - 6 : y0 + 11, class: `level c-${role}`, "text-anchor": end ? "end" : "start" }, layer, label);
      return;
    }
    const y = Math.round(Y.at(value)) + 0.5;
    if (y < y0 - 1 || y > y1 + 1) return;
    element("path", { d: `M${left},${y}H${right}`, class: `line c-${role}`, "stroke-width": 1.5, "stroke-dasharray": cg.dash(dash) }, layer);
    element("text", { x: right - 2, y: y - 5 < y0 - 4 ? y + 14 : y - 5, class: `level c-${role}`, "text-anchor": "end" }, layer, label);
  }

  function colourBar(svg, mark, box) {
    const width = Math.min(box.right - box.left, 240), x = box.left, y = box.height - 40;
    const colour = cg.colours(mark.colors), [low, high] = mark.ends;
    const strip = cg.picture([[...Array(100).keys()].map((k) => k / 99)], colour);
    element("image", { href: strip, x, y, width, height: 8, preserveAspectRatio: "none" }, svg);
    const axes = element("g", { class: "axes" }, svg);
    for (const [value, text] of cg.ticks(low, high, 4)) {
      element("text", { x: x + width * (value - low) / (high - low), y: y + 21, "text-anchor": "middle" }, axes, text);
    }
    element("text", { x, y: y + 37, class: "title" }, axes, mark.label);
  }

  // Plots that stand side by side begin at the same height.
  function besideLegend(place) {
    if (place.closest(".full")) return false;
    return [...place.closest(".plots").querySelectorAll(".plot")].some((one) => named(figures[one.dataset.figure] || { marks: [] }).size);
  }

  const emptyLegend = () => Object.assign(document.createElement("ul"), { className: "legend empty" });

  // What has a name to be told.
  function named(figure) {
    const shown = new Map();
    for (const mark of figure.marks) if (mark.name && mark.legend !== false && mark.mark !== "box" && !shown.has(mark.name)) shown.set(mark.name, mark);
    for (const one of figure.bands || []) if (one.label) shown.set(one.label, { mark: "band", role: one.role });
    return shown;
  }

  function legend(figure) {
    const shown = named(figure);
    if (!shown.size) return null;
    const list = document.createElement("ul");
    list.className = "legend";
    list.setAttribute("aria-hidden", "true");
    for (const [name, mark] of shown) {
      const item = document.createElement("li"), swatch = element("svg", { width: 24, height: 12, viewBox: "0 0 24 12" });
      if (mark.mark === "points") cg.symbol(mark.symbol, 12, 6, 4, mark, swatch);
      else if (mark.mark === "band") element("rect", { x: 1, y: 1, width: 22, height: 10, class: `band ${cg.role(mark)}` }, swatch);
      else if (mark.mark === "bars") element("rect", { x: 5, y: 1, width: 14, height: 10, class: `bar ${cg.role(mark)}` }, swatch);
      else {
        if (mark.fill) element("rect", { x: 1, y: 6, width: 22, height: 6, class: `area ${cg.role(mark)}` }, swatch);
        element("path", { d: "M1,6H23", class: `line ${cg.role(mark)}`, "stroke-width": mark.width || 2, "stroke-dasharray": cg.dash(mark.dash) }, swatch);
      }
      item.append(swatch, name);
      list.append(item);
    }
    return list;
  }

  // What lies nearest to the pointer is ringed and told.
  function point(place, svg, hits, box, width) {
    if (!hits.length && !hits.cell) return;
    const ring = element("circle", { r: 6, class: "ring", visibility: "hidden" }, svg), tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    place.append(tip);
    const hide = () => { tip.hidden = true; ring.setAttribute("visibility", "hidden"); };
    const show = (event) => {
      const frame = svg.getBoundingClientRect(), scale = frame.width / width;
      const [x, y] = [(event.clientX - frame.left) / scale, (event.clientY - frame.top) / scale];
      let found = null, best = 40 ** 2;
      for (const one of hits) { const d = (one.x - x) ** 2 + (one.y - y) ** 2; if (d < best) { best = d; found = one; } }
      if (!found && hits.cell && x >= box.left && x <= box.right && y >= box.panels[0].y0 && y <= box.panels[0].y1) found = hits.cell(x, y);
      if (!found) return hide();
      tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: found.name }), document.createTextNode(found.words));
      tip.hidden = false;
      const left = Math.max(0, Math.min(frame.width - tip.offsetWidth, found.x * scale - tip.offsetWidth / 2));
      const top = svg.offsetTop + found.y * scale;
      tip.style.left = `${left}px`;
      tip.style.top = `${top - tip.offsetHeight - 12 < -20 ? top + 14 : top - tip.offsetHeight - 12}px`;
      ring.setAttribute("cx", found.x); ring.setAttribute("cy", found.y);
      ring.setAttribute("class", `ring ${found.role}`); ring.setAttribute("visibility", "visible");
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  }

  const source = document.getElementById("figures");
  const figures = source ? JSON.parse(source.textContent) : {};
  const places = [...document.querySelectorAll(".plot[data-figure]")];
  const widths = new WeakMap();
  // Everything is measured before anything is drawn: the browser then lays the page out once, not once a plot.
  function drawAll(wanted) {
    ruler.font = `${TEXT}px ${getComputedStyle(document.body).fontFamily}`;
    cg.forgetColours();
    const measured = wanted.map((place) => [place, Math.floor(place.clientWidth)]);
    for (const [place, width] of measured) {
      widths.set(place, width);
      if (width && figures[place.dataset.figure]) draw(place, figures[place.dataset.figure], width);
    }
  }
  const redraw = () => drawAll(places.filter((place) => place.offsetParent));
  const watch = new ResizeObserver((entries) => {
    drawAll(entries.map(({ target }) => target).filter((place) => widths.get(place) !== Math.floor(place.clientWidth)));
  });
  // Plots for which there was no room in the file.
  for (const place of places) if (!figures[place.dataset.figure]) place.closest("figure").hidden = true;
  places.forEach((place) => watch.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  cg.redraw = redraw;
})();
