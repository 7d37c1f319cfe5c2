"use strict";
// Frames before a crash: a CA trace to turn, a slider in time, and the numbers in step. Plain canvas.
(() => {
  const MARK = "#D55E00", TRACE = [0, 114, 178], INK = "#1a1a1a", GREY = "#6b6b6b";
  const SPARK = { width: 200, height: 34 };

  const show = (value, unit) => {
    if (value === null || value === undefined) return "not a number";
    const size = Math.abs(value);
    const text = size >= 1e6 ? value.toExponential(2) : size >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2);
    return `${text.replace("-", "−")} ${unit}`.trim();
  };

  // Radius of what is shown: the chain as it was in the first frame, with room for what moves away.
  const extent = (frames) => {
    const radius = (flat) => {
      let largest = 1;
      for (let i = 0; i < flat.length; i += 3) largest = Math.max(largest, Math.hypot(flat[i] ?? 0, flat[i + 1] ?? 0, flat[i + 2] ?? 0));
      return largest;
    };
    return Math.min(1.6 * radius(frames.positions[0]), Math.max(...frames.positions.map(radius))) * 1.12;
  };

  function start(root) {
    const frames = JSON.parse(document.getElementById(root.dataset.frames).textContent);
    const canvas = root.querySelector("canvas"), slider = root.querySelector("input");
    const button = root.querySelector("button"), clock = root.querySelector(".clock");
    const count = frames.positions.length, size = extent(frames);
    const state = { frame: count - 1, turn: 0.3, tilt: -0.25, timer: null };
    slider.max = count - 1;
    const sparks = frames.series.map((series) => addReadout(root.querySelector(".readouts"), series));

    const project = (flat, width, height) => {
      const [ct, st, cp, sp] = [Math.cos(state.turn), Math.sin(state.turn), Math.cos(state.tilt), Math.sin(state.tilt)];
      const scale = 0.5 * Math.min(width, height) / size, far = 4 * size;
      const beads = [];
      for (let i = 0; i < flat.length; i += 3) {
        if (flat[i] === null || flat[i + 1] === null || flat[i + 2] === null) { beads.push(null); continue; }
        const x = ct * flat[i] + st * flat[i + 2], z0 = ct * flat[i + 2] - st * flat[i];
        const y = cp * flat[i + 1] - sp * z0, z = sp * flat[i + 1] + cp * z0;
        const near = far / Math.max(far - z, 0.2 * far);
        beads.push({ x: width / 2 + scale * near * x, y: height / 2 - scale * near * y, near, z, i: i / 3 });
      }
      return beads;
    };

    // Beads and bonds that lie behind are paler.
    const shade = (z) => {
      const part = Math.min(1, Math.max(0.25, 0.62 + 0.4 * z / size));
      return `rgb(${TRACE.map((c) => Math.round(255 - part * (255 - c))).join(",")})`;
    };

    function draw() {
      const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      if (!width) return;
      canvas.width = width * ratio; canvas.height = height * ratio;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      pen.clearRect(0, 0, width, height);
      const beads = project(frames.positions[state.frame], width, height);
      const bead = Math.max(3, Math.min(11, 60 / Math.sqrt(beads.length)));
      const things = frames.bonds.filter(([a, b]) => beads[a] && beads[b])
        .map(([a, b]) => ({ z: Math.min(beads[a].z, beads[b].z) - 0.01, a: beads[a], b: beads[b] }));
      things.push(...beads.filter(Boolean));
      things.sort((p, q) => p.z - q.z);
      for (const thing of things) thing.a ? drawBond(pen, thing, bead) : drawBead(pen, thing, bead, beads.length);
      drawMarks(pen, beads, bead);
    }

    function drawBond(pen, { a, b, z }, bead) {
      pen.strokeStyle = shade(z); pen.lineWidth = 0.55 * bead * (a.near + b.near) / 2; pen.lineCap = "round";
      pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
    }

    function drawBead(pen, { x, y, near, z, i }, bead, n) {
      const marked = frames.beads.includes(i), radius = bead * near * (marked ? 1.35 : 1);
      pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fillStyle = marked ? MARK : shade(z); pen.fill();
      pen.lineWidth = marked ? 2.5 : 1; pen.strokeStyle = marked ? INK : "#ffffff"; pen.stroke();
      if (n > 60 || marked) return;
      pen.fillStyle = z > -0.25 * size ? "#ffffff" : INK; pen.font = `600 ${Math.round(1.25 * radius)}px system-ui, sans-serif`;
      pen.textAlign = "center"; pen.textBaseline = "middle"; pen.fillText(frames.letters[i], x, y + 0.5);
    }

    // The offending beads by name, and the line between a pair of them.
    function drawMarks(pen, beads, bead) {
      const marked = frames.beads.map((i) => beads[i]).filter(Boolean);
      pen.font = "600 13px system-ui, sans-serif"; pen.textAlign = "left"; pen.textBaseline = "middle";
      if (marked.length === 2) {
        const [a, b] = marked;
        pen.setLineDash([4, 4]); pen.strokeStyle = MARK; pen.lineWidth = 2;
        pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke(); pen.setLineDash([]);
      }
      marked.slice(0, 6).forEach((at, k) => {
        const above = marked.length === 2 && at.y > marked[1 - k].y ? 1 : -1;
        const text = frames.residues[at.i], x = at.x + 1.6 * bead, y = at.y + above * 1.9 * bead;
        pen.lineWidth = 4; pen.strokeStyle = "#ffffff"; pen.strokeText(text, x, y);
        pen.fillStyle = INK; pen.fillText(text, x, y);
      });
    }

    function go(frame) {
      state.frame = Math.max(0, Math.min(count - 1, frame));
      slider.value = state.frame;
      clock.textContent = `${frames.time_fs[state.frame].toFixed(0).replace("-", "−")} fs, step ${frames.steps[state.frame].toLocaleString("en")}`;
      slider.setAttribute("aria-valuetext", clock.textContent);
      sparks.forEach((update) => update(state.frame));
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
      // The whole film takes about six seconds, whatever its length.
      state.timer = setInterval(() => state.frame < count - 1 ? go(state.frame + 1) : stop(), Math.max(30, 6000 / count));
    });
    slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });

    let last = null;
    const turn = (dx, dy) => { state.turn += dx; state.tilt = Math.max(-1.5, Math.min(1.5, state.tilt + dy)); draw(); };
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
    go(state.frame);
  }

  // Name, value and a small curve of one quantity; returns what moves its cursor.
  function addReadout(parent, { name, unit, values }) {
    const known = values.filter((v) => v !== null), low = Math.min(...known), high = Math.max(...known);
    const x = (k) => 3 + (SPARK.width - 6) * k / Math.max(1, values.length - 1);
    const y = (v) => SPARK.height - 4 - (SPARK.height - 8) * (high > low ? (v - low) / (high - low) : 0.5);
    let path = "", pen = "M";
    values.forEach((v, k) => { if (v === null) { pen = "M"; } else { path += `${pen}${x(k).toFixed(1)},${y(v).toFixed(1)}`; pen = "L"; } });
    const box = document.createElement("div");
    box.className = "readout";
    box.innerHTML = `<span></span><svg viewBox="0 0 ${SPARK.width} ${SPARK.height}" preserveAspectRatio="none" aria-hidden="true">` +
      `<path d="${path}" fill="none" stroke="${GREY}" stroke-width="1.5" vector-effect="non-scaling-stroke"/>` +
      `<line y1="0" y2="${SPARK.height}" stroke="${MARK}" stroke-width="2" vector-effect="non-scaling-stroke"/></svg><b></b>`;
    box.querySelector("span").textContent = name;
    parent.append(box);
    const line = box.querySelector("line"), number = box.querySelector("b");
    return (frame) => {
      line.setAttribute("x1", x(frame)); line.setAttribute("x2", x(frame));
      number.textContent = show(values[frame], unit);
    };
  }

  document.querySelectorAll(".viewer").forEach(start);
})();
