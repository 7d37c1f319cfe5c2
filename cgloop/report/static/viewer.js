"use strict";
// Frames before a crash: a CA trace to turn, a slider in time, and the numbers in step. Plain canvas.
cg.viewers = [];
(() => {
  const CHART = { width: 300, height: 44 }, TRAIL = 80, FILM_MS = 6000;

  const show = (value, unit) => {
    if (value === null || value === undefined) return "not a number";
    const size = Math.abs(value);
    const text = size >= 1e6 ? value.toExponential(2) : size >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2);
    return `${text.replace("-", "−")} ${unit}`.trim();
  };

  // Colours of the style sheet as [r, g, b]: they differ in the dark and on paper.
  function palette() {
    const probe = document.createElement("i"), found = {};
    document.body.append(probe);
    for (const name of ["model", "broken", "ink", "wash", "paper"]) {
      probe.style.color = `var(--${name})`;
      found[name] = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    }
    probe.remove();
    return found;
  }
  const rgb = (color, alpha = 1) => `rgba(${color.join(",")},${alpha})`;
  const mixed = (a, b, part) => a.map((c, k) => Math.round(b[k] + part * (c - b[k])));

  // Radius of what is shown: the chain as it was in the first frame, with room for what moves away.
  const extent = (frames) => {
    const radius = (flat) => {
      let largest = 1;
      for (let i = 0; i < flat.length; i += 3) largest = Math.max(largest, Math.hypot(flat[i] ?? 0, flat[i + 1] ?? 0, flat[i + 2] ?? 0));
      return largest;
    };
    return Math.min(1.6 * radius(frames.positions[0]), Math.max(...frames.positions.map(radius))) * 1.12;
  };

  // From Å to pixels: turned, tilted, and nearer beads larger. Beads without a position are null.
  function project(flat, view, size, width, height) {
    const [ct, st, cp, sp] = [Math.cos(view.turn), Math.sin(view.turn), Math.cos(view.tilt), Math.sin(view.tilt)];
    const scale = 0.5 * Math.min(width, height) / size, far = 4 * size, beads = [];
    for (let i = 0; i < flat.length; i += 3) {
      if (flat[i] === null || flat[i + 1] === null || flat[i + 2] === null) { beads.push(null); continue; }
      const x = ct * flat[i] + st * flat[i + 2], z0 = ct * flat[i + 2] - st * flat[i];
      const y = cp * flat[i + 1] - sp * z0, z = sp * flat[i + 1] + cp * z0;
      const near = far / Math.max(far - z, 0.2 * far);
      beads.push({ x: width / 2 + scale * near * x, y: height / 2 - scale * near * y, near, z, i: i / 3 });
    }
    return beads;
  }

  // Draws one frame on a canvas.
  function painter(canvas, frames) {
    const size = extent(frames), marked = new Set(frames.beads);
    return (frame, view) => {
      const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      if (!width) return;
      canvas.width = width * ratio; canvas.height = height * ratio;
      const pen = canvas.getContext("2d"), color = palette();
      pen.scale(ratio, ratio);
      const at = (k) => project(frames.positions[k], view, size, width, height);
      const beads = at(frame), radius = Math.max(3, Math.min(12, 64 / Math.sqrt(beads.length)));
      // What lies behind fades into the background.
      const fog = (base, z) => mixed(base, color.wash, Math.min(1, Math.max(0.25, 0.66 + 0.4 * z / size)));
      trails(pen, frames, frame, at, color);
      const things = frames.bonds.filter(([a, b]) => beads[a] && beads[b])
        .map(([a, b]) => ({ z: Math.min(beads[a].z, beads[b].z) - 0.01, a: beads[a], b: beads[b] }));
      things.push(...beads.filter(Boolean));
      things.sort((p, q) => p.z - q.z);
      for (const thing of things) {
        if (thing.a) drawBond(pen, thing, radius, fog(color.model, thing.z));
        else drawBead(pen, thing, radius, marked.has(thing.i), fog, color, frames);
      }
      names(pen, frames, beads, radius, color);
    };
  }

  // Where the offending beads came from.
  function trails(pen, frames, frame, at, color) {
    const first = Math.max(0, frame - TRAIL);
    const path = frames.beads.length > 4 ? [] : [...Array(frame - first + 1).keys()].map((k) => at(first + k));
    for (const bead of path.length ? frames.beads : []) {
      for (let k = 1; k < path.length; k++) {
        const [a, b] = [path[k - 1][bead], path[k][bead]];
        if (!a || !b) continue;
        pen.strokeStyle = rgb(color.broken, 0.55 * k / path.length); pen.lineWidth = 2;
        pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
      }
    }
  }

  function drawBond(pen, { a, b }, radius, color) {
    pen.strokeStyle = rgb(mixed(color, [0, 0, 0], 0.86)); pen.lineWidth = 0.5 * radius * (a.near + b.near) / 2; pen.lineCap = "round";
    pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
  }

  function drawBead(pen, { x, y, near, z, i }, size, marked, fog, color, frames) {
    const radius = size * near * (marked ? 1.3 : 1), base = marked ? color.broken : fog(color.model, z);
    const light = pen.createRadialGradient(x - 0.35 * radius, y - 0.4 * radius, 0.1 * radius, x, y, radius);
    light.addColorStop(0, rgb(mixed(base, [255, 255, 255], 0.55))); light.addColorStop(0.55, rgb(base)); light.addColorStop(1, rgb(mixed(base, [0, 0, 0], 0.72)));
    pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = light; pen.fill();
    if (marked) { pen.lineWidth = 2.5; pen.strokeStyle = rgb(color.broken); pen.beginPath(); pen.arc(x, y, radius + 3, 0, 2 * Math.PI); pen.stroke(); }
    if (frames.letters.length > 60 || radius < 7) return;
    pen.fillStyle = "#fff"; pen.font = `600 ${Math.round(1.15 * radius)}px system-ui, sans-serif`;
    pen.textAlign = "center"; pen.textBaseline = "middle"; pen.fillText(frames.letters[i], x, y + 0.5);
  }

  // The offending beads by name, and the line between a pair of them.
  function names(pen, frames, beads, radius, color) {
    const marked = frames.beads.map((i) => beads[i]).filter(Boolean);
    pen.font = "600 13px system-ui, sans-serif"; pen.textAlign = "left"; pen.textBaseline = "middle";
    if (marked.length === 2) {
      const [a, b] = marked;
      pen.setLineDash([4, 4]); pen.strokeStyle = rgb(color.broken); pen.lineWidth = 2;
      pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke(); pen.setLineDash([]);
    }
    marked.slice(0, 6).forEach((at, k) => {
      const above = marked.length === 2 && at.y > marked[1 - k].y ? 1 : -1;
      const text = frames.residues[at.i], x = at.x + 1.6 * radius, y = at.y + above * 1.9 * radius;
      pen.lineWidth = 4; pen.lineJoin = "round"; pen.strokeStyle = rgb(color.wash); pen.strokeText(text, x, y);
      pen.fillStyle = rgb(color.ink); pen.fillText(text, x, y);
    });
  }

  function start(root) {
    const frames = JSON.parse(document.getElementById(root.dataset.frames).textContent);
    const canvas = root.querySelector("canvas"), slider = root.querySelector("input");
    const button = root.querySelector("button"), clock = root.querySelector(".clock");
    const count = frames.positions.length, paint = painter(canvas, frames);
    const state = { frame: count - 1, timer: null }, view = { turn: 0.3, tilt: -0.25 };
    const draw = () => paint(state.frame, view);
    slider.max = count - 1;
    root.querySelector(".controls").hidden = count < 2;
    const charts = frames.series.map((series) => addChart(root.querySelector(".readouts"), series, (k) => { stop(); go(k); }));

    function go(frame) {
      state.frame = Math.max(0, Math.min(count - 1, frame));
      slider.value = state.frame;
      clock.textContent = `${frames.time_fs[state.frame].toFixed(0).replace("-", "−")} fs, step ${frames.steps[state.frame].toLocaleString("en")}`;
      slider.setAttribute("aria-valuetext", clock.textContent);
      charts.forEach((update) => update(state.frame));
      draw();
    }

    function stop() {
      clearInterval(state.timer); state.timer = null;
      button.textContent = "▶"; button.setAttribute("aria-label", "Play");
    }

    button.addEventListener("click", () => {
      if (state.timer) return stop();
      if (state.frame === count - 1) go(0);
      button.textContent = "❚❚"; button.setAttribute("aria-label", "Pause");
      state.timer = setInterval(() => state.frame < count - 1 ? go(state.frame + 1) : stop(), Math.max(30, FILM_MS / count));
    });
    slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });

    let last = null;
    const turn = (dx, dy) => { view.turn += dx; view.tilt = Math.max(-1.5, Math.min(1.5, view.tilt + dy)); draw(); };
    canvas.addEventListener("pointerdown", (event) => { last = event; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      turn(0.01 * (event.clientX - last.clientX), 0.01 * (event.clientY - last.clientY));
      last = event;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (step) { event.preventDefault(); turn(...step); }
    });
    new ResizeObserver(draw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    cg.viewers.push(draw);
    go(state.frame);
  }

  // Name, value and curve of one quantity; pointing at the curve goes to its frame. Returns what moves its cursor.
  function addChart(parent, { name, unit, values }, seek) {
    const known = values.filter((v) => v !== null), low = Math.min(...known), high = Math.max(...known), { width, height } = CHART;
    const x = (k) => width * k / Math.max(1, values.length - 1);
    const y = (v) => height - 4 - (height - 8) * (high > low ? (v - low) / (high - low) : 0.5);
    let path = "", pen = "M";
    values.forEach((v, k) => { if (v === null) { pen = "M"; } else { path += `${pen}${x(k).toFixed(1)},${y(v).toFixed(1)}`; pen = "L"; } });
    const box = document.createElement("div"), head = document.createElement("div"), title = document.createElement("span");
    const number = document.createElement("b"), ends = document.createElement("small");
    box.className = "readout";
    title.textContent = name;
    ends.textContent = known.length ? `from ${show(low, "")} to ${show(high, unit)}` : "";
    head.append(title, number);
    const svg = cg.element("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const fixed = { "vector-effect": "non-scaling-stroke" };
    cg.element("path", { d: path, class: "line c-model", "stroke-width": 1.7, ...fixed }, svg);
    const line = cg.element("line", { y1: 0, y2: height, class: "line c-broken", "stroke-width": 2, ...fixed }, svg);
    const point = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const frame = svg.getBoundingClientRect();
      seek(Math.round((event.clientX - frame.left) / frame.width * (values.length - 1)));
    };
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointermove", point);
    box.append(head, ...(high > low ? [svg, ends] : []));
    parent.append(box);
    return (frame) => {
      line.setAttribute("x1", x(frame)); line.setAttribute("x2", x(frame));
      number.textContent = show(values[frame], unit);
    };
  }

  document.querySelectorAll(".viewer").forEach(start);
})();
