(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const strips = read("strips-data");
  const bar = (v, [low, high]) =>
    v === null || v <= 0 ? 0 : Math.min(1, Math.max(0.02, (Math.log10(v) - low) / (high - low)));
  const share = (s, b) => (s === null || b === null || (s === 0 && b === 0) ? null : 1 / (1 + (b / s) ** 2));
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const figure = (v) => {
    if (v === null) return "not measured, or no number";
    if (v === 0 || (Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5)) return String(Number(v.toPrecision(3)));
    const [m, e] = v.toExponential(2).split("e");
    return m + "×10" + [...String(Number(e))].map((c) => (c === "-" ? "⁻" : digits[Number(c)])).join("");
  };

  // The strips: one slider sets arc widths and bar heights of all of them.
  const drawn = [...document.querySelectorAll("figure.strip")].map((box, k) => {
    const svg = box.querySelector("svg");
    const pick = (kind) => [...svg.querySelectorAll("g." + kind)].map((g) => ({ g, i: Number(g.dataset.i), tip: g.dataset.tip }));
    for (const title of svg.querySelectorAll("title")) title.remove(); // our own tooltip stands in for it
    return { data: strips.strips[k], arcs: pick("arc"), cells: pick("cell"),
             widest: Number(svg.dataset.widest), floor: Number(svg.dataset.floor), bars: Number(svg.dataset.bars) };
  });
  const show = (at) => {
    for (const { data, arcs, cells, widest, floor, bars } of drawn) {
      if (!data) continue;
      const S = data.S[at] || [], B = data.B[at] || [], G = data.G[at] || [];
      const when = strips.steps.length ? " at step " + strips.steps[at] : "";
      for (const a of arcs) {
        const s = S[a.i] ?? null, b = B[a.i] ?? null, part = share(s, b);
        a.g.classList.toggle("unmeasured", part === null);
        a.g.querySelector(".line").setAttribute("stroke-width",
          part === null ? 1 : (strips.thinnest + part * (widest - strips.thinnest)).toFixed(2));
        a.now = part === null ? "not measured" + when
          : `share of the gradient ${figure(100 * part)} %${when}\n‖S‖ ${figure(s)} shortcut, ‖B‖ ${figure(b)} branch`;
      }
      for (const c of cells) {
        const v = G[c.i] ?? null, rect = c.g.querySelector(".bar");
        if (rect) {
          const h = bars * bar(v, strips.scale);
          rect.setAttribute("height", h.toFixed(1));
          rect.setAttribute("y", (floor - h).toFixed(1));
        }
        c.now = `‖dL/dz‖ ${figure(v)}${when}`;
      }
    }
  };
  const slider = document.getElementById("step");
  if (slider) {
    const name = document.getElementById("step-name");
    slider.addEventListener("input", () => { name.textContent = strips.steps[slider.value]; show(Number(slider.value)); });
  }
  show(slider ? Number(slider.value) : 0);

  const tip = document.getElementById("tip");
  for (const { arcs, cells } of drawn) {
    for (const thing of [...arcs, ...cells]) {
      thing.g.addEventListener("pointermove", (event) => {
        tip.textContent = thing.tip + "\n" + thing.now;
        tip.hidden = false;
        const { width, height } = tip.getBoundingClientRect();
        const x = Math.max(8, Math.min(event.clientX + 14, document.documentElement.clientWidth - width - 8));
        const y = event.clientY + 18 + height > window.innerHeight ? event.clientY - height - 12 : event.clientY + 18;
        tip.style.left = x + "px";
        tip.style.top = y + "px";
      });
      thing.g.addEventListener("pointerleave", () => { tip.hidden = true; });
    }
  }

  const copy = document.getElementById("copy");
  if (copy) copy.addEventListener("click", async () => {
    const lines = document.getElementById("lines");
    try {
      await navigator.clipboard.writeText(lines.textContent);
      copy.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(lines); // a page from a file may not be let near the clipboard
      copy.textContent = "selected";
    }
  });

  // The figures, last: the answer must be there before they are.
  const charts = read("charts-data");
  const all = Object.entries(charts.specs).map(([name, spec]) => {
    spec.datasets = { ...spec.datasets };
    for (const [key, rows] of Object.entries(charts.data)) if (JSON.stringify(spec).includes(`"name":"${key}"`)) spec.datasets[key] = rows;
    const place = document.querySelector(`[data-chart="${name}"]`);
    // On a small screen the legends' entries stand below each other.
    if (place.clientWidth < 520) spec.config.legend = { ...spec.config.legend, columns: 1, layout: { top: { direction: "vertical" } } };
    return vegaEmbed(place, spec, { actions: false, renderer: "svg" });
  });
  Promise.all(all).then(() => { document.body.dataset.ready = "yes"; });
})();
