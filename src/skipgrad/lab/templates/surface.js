// Shows a contour's heights as surfaces that turn: by pointer, or by the arrow keys. Reads them under the picture.
(() => {
  const said = JSON.parse(document.getElementById("heights").textContent);
  const box = document.getElementById("surface"), told = document.getElementById("height-read");
  const figure = box.closest("figure"), drawing = figure.querySelector("svg.contour");
  const svgns = "http://www.w3.org/2000/svg", SIDE = 300, LOW = 0.1;
  let turn = 0.6, tilt = 0.9;
  const all = said.maps.flatMap(m => m.z.flat()).filter(v => v !== null);
  const logs = Math.min(...all) > 0 && Math.max(...all) / Math.min(...all) > 20;
  const h = v => logs ? Math.log(v) : v, low = h(Math.min(...all)), high = h(Math.max(...all));
  const colour = v => said.ramp[said.levels.filter(l => l <= v).length];
  const short = v => Number(v.toPrecision(3)).toString();
  const make = (kind, at, parent) => {
    const e = document.createElementNS(svgns, kind);
    for (const [k, v] of Object.entries(at)) e.setAttribute(k, v);
    return parent.appendChild(e);
  };
  function draw() {
    box.replaceChildren();
    said.maps.forEach((m, i) => {
      const n = m.ys.length, w = m.xs.length, cos = Math.cos(turn), sin = Math.sin(turn);
      const at = (r, c) => {
        const x = c / (w - 1) - 0.5, y = r / (n - 1) - 0.5, z = (h(m.z[r][c]) - low) / ((high - low) || 1) - 0.5;
        const right = x * cos - y * sin, back = x * sin + y * cos;
        return [SIDE * (i + 0.5) + 10 * i + right * SIDE * 0.66,
          SIDE * 0.56 + back * SIDE * 0.5 * Math.cos(tilt) - z * SIDE * 0.6 * Math.sin(tilt), back];
      };
      const faces = [];
      for (let r = 0; r + 1 < n; r++) for (let c = 0; c + 1 < w; c++) {
        const corners = [[r, c], [r, c + 1], [r + 1, c + 1], [r + 1, c]], v = corners.map(([a, b]) => m.z[a][b]);
        if (v.includes(null)) continue;
        const p = corners.map(([a, b]) => at(a, b));
        faces.push({p, v: (v[0] + v[1] + v[2] + v[3]) / 4, far: p.reduce((s, q) => s + q[2], 0),
          x: (m.xs[c] + m.xs[c + 1]) / 2, y: (m.ys[r] + m.ys[r + 1]) / 2});
      }
      faces.sort((a, b) => a.far - b.far);
      for (const f of faces) {
        const e = make("polygon", {points: f.p.map(q => q[0].toFixed(1) + "," + q[1].toFixed(1)).join(" "),
          fill: colour(f.v), stroke: "#8886", "stroke-width": 0.5}, box);
        e.addEventListener("pointerenter", () => read(m.name, f.x, f.y, f.v));
      }
      const t = make("text", {x: SIDE * (i + 0.5) + 10 * i, y: 16, "text-anchor": "middle"}, box);
      t.textContent = m.name;
    });
  }
  const read = (name, x, y, v) => { told.textContent = `${name} at (${short(x)}, ${short(y)}): ${said.z} ${short(v)}`; };
  box.setAttribute("viewBox", `0 0 ${said.maps.length * (SIDE + 10)} ${SIDE + 20}`);
  const rotate = (dx, dy) => { turn += dx; tilt = Math.min(1.5, Math.max(LOW, tilt + dy)); draw(); };
  const keys = {ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1]};
  box.addEventListener("keydown", e => { if (keys[e.key]) { e.preventDefault(); rotate(...keys[e.key]); } });
  let held = null;
  box.addEventListener("pointerdown", e => { held = [e.clientX, e.clientY]; box.setPointerCapture(e.pointerId); });
  box.addEventListener("pointermove", e => {
    if (held === null) return;
    rotate((e.clientX - held[0]) / 120, (e.clientY - held[1]) / 160); held = [e.clientX, e.clientY];
  });
  box.addEventListener("pointerup", () => { held = null; });
  drawing.addEventListener("pointermove", e => {  // the nearest point of the map under the pointer
    const r = drawing.getBoundingClientRect(), s = drawing.viewBox.baseVal.width / r.width;
    const px = (e.clientX - r.left) * s, py = (e.clientY - r.top) * s, g = JSON.parse(drawing.dataset.frame);
    const i = Math.floor((px - g.left) / (g.side + g.between)), m = said.maps[i];
    const u = (px - g.left - i * (g.side + g.between)) / g.side, v = 1 - (py - g.top) / g.side;
    if (!m || u < 0 || u > 1 || v < 0 || v > 1) return;
    const c = Math.round(u * (m.xs.length - 1)), q = Math.round(v * (m.ys.length - 1));
    if (m.z[q][c] !== null) read(m.name, m.xs[c], m.ys[q], m.z[q][c]);
  });
  const show = which => {
    box.toggleAttribute("hidden", which !== "surface"); drawing.toggleAttribute("hidden", which === "surface");
    for (const b of figure.querySelectorAll("button[data-show]")) b.setAttribute("aria-pressed", b.dataset.show === which);
  };
  for (const b of figure.querySelectorAll("button[data-show]")) b.addEventListener("click", () => show(b.dataset.show));
  draw(); show("contour");
})();
