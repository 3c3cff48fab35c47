// Interactive plots, drawn from the page's own data. One legend rules them all.
const NS = "http://www.w3.org/2000/svg";
function make(tag, attributes = {}, parent) {
  const node = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

const MARKS = {  // unit shapes of radius 1, as in the PNG files
  o: "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z", s: "M-.9-.9H.9V.9H-.9Z", D: "M0-1.2L1.2 0L0 1.2L-1.2 0Z", "^": "M0-1.1L1.1 .9H-1.1Z",
  v: "M0 1.1L1.1-.9H-1.1Z", "<": "M-1.1 0L.9-1.1V1.1Z", ">": "M1.1 0L-.9-1.1V1.1Z",
  P: "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z", X: "M-1-.5L-.5-1L0-.5L.5-1L1-.5L.5 0L1 .5L.5 1L0 .5L-.5 1L-1 .5L-.5 0Z",
  "*": "M0-1.3L.32-.42H1.24L.5 .13L.77 1.05L0 .5L-.77 1.05L-.5 .13L-1.24-.42H-.32Z",
};
const paint = (node, look) => { node.style.setProperty("--c", look.colour); node.style.setProperty("--d", look.dark); return node; };
function mark(look, x, y, r, parent) {
  return make("path", { d: MARKS[look.marker], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${r})`, class: "fill" }, parent);
}
function swatch(look) {
  const svg = paint(make("svg", { width: 26, height: 12, class: "swatch", "aria-hidden": "true" }), look);
  make("line", { x1: 1, x2: 25, y1: 6, y2: 6, class: "look", "stroke-width": look.width, "stroke-dasharray": look.dashes.map((d) => d * look.width).join(" ") }, svg);
  mark(look, 13, 6, 3.6, svg);
  return svg;
}

const TRACES = {
  probe: ["Probe entropy", "nats per token", "Fresh rollouts on fixed held-out prompts at temperature 1: one entropy for all."],
  entropy: ["Training entropy", "nats per token", "Token mean over the training rollouts; each method's own prompts and temperature."],
  entropy_correct: ["Entropy of right rollouts", "nats per token", "Token mean over training rollouts that were judged right."],
  entropy_wrong: ["Entropy of wrong rollouts", "nats per token", "Token mean over training rollouts that were judged wrong."],
  accuracy: ["Training accuracy", "share of right rollouts", "Training rollouts, before any selection."],
  length: ["Response length", "tokens", "Mean over the training rollouts."],
  activity: ["Activity", "share of tokens", "Tokens whose gradient the method changed."],
};
let quantity = "probe";

// Each plot: title, caption, axes, and points {x, y, low, high, say} per row.
const PLOTS = {
  entropy(data) {
    const [title, unit, caption] = TRACES[quantity];
    const points = (row) => quantity === "probe"
      ? row.entropy_curve && row.entropy_curve.step.map((x, i) => ({ x, y: row.entropy_curve.mean[i], low: row.entropy_curve.low[i], high: row.entropy_curve.high[i] }))
      : row.trace?.[quantity] && row.trace.step.map((x, i) => ({ x, y: row.trace[quantity][i] })).filter((p) => p.x != null && p.y != null);
    return { title, caption, x: "training step", y: unit, points, flat: true, zero: true, choice: Object.keys(TRACES).filter((k) => k === "probe" || data.rows.some((r) => r.trace?.[k])),
      say: (p) => `step ${Math.round(p.x)}: ${p.y.toFixed(3)}${p.low == null || p.low === p.high ? "" : ` (seeds ${p.low.toFixed(3)} to ${p.high.toFixed(3)})`}` };
  },
  frontier(data) {
    const k = data.frontier_k, key = `pass@${k}`;
    return { title: "The frontier: accuracy against diversity", caption: "A point for every checkpoint, on the validation set; the large mark is the last. Up and to the right is better; compare heights at equal pass@1. Dotted: the level of the table below.",
      x: "pass@1 in %", y: `${key} in %`, last: true, at: data.equal && 100 * data.equal["pass@1"],
      points: (row) => row.frontier && row.frontier["pass@1"].step.map((step, i) => ({ step, x: 100 * row.frontier["pass@1"].mean[i], y: 100 * row.frontier[key].mean[i] })),
      say: (p) => `step ${p.step}: pass@1 ${p.x.toFixed(1)} %, ${key} ${p.y.toFixed(1)} %` };
  },
  passk() {
    return { title: "pass@k", caption: "Averaged over the test sets. Where a curve falls below the base model's, fewer problems are solved within k samples than by the untrained model.",
      x: "k (samples)", y: "pass@k in %", log: true,
      points: (row) => row.passk && row.passk.mean.map((y, i) => ({ x: i + 1, y: 100 * y, low: 100 * row.passk.low[i], high: 100 * row.passk.high[i] })),
      say: (p) => `pass@${p.x}: ${p.y.toFixed(1)} %${p.low === p.high ? "" : ` (seeds ${p.low.toFixed(1)} to ${p.high.toFixed(1)})`}` };
  },
};

PLOTS.law = () => ({ title: "Score against entropy", caption: "Checkpoints of every seed and the fit R = −a exp(H) + b. Where something holds the entropy up, the law does not apply and the fit only describes.",
  x: "training entropy before the checkpoint, nats per token", y: "pass@1 in %, validation set", scatter: true,
  points: (row) => row.law && row.law.points.flat().map(([x, y, off]) => ({ x, y: 100 * y, off: 100 * off, why: row.law.why_not })).sort((a, b) => a.x - b.x),
  fit: (row) => (x) => 100 * (row.law.b[0] - row.law.a[0] * Math.exp(x)),
  say: (p) => `H = ${p.x.toFixed(3)}: pass@1 ${p.y.toFixed(1)} %, ${p.off.toFixed(1)} points off its seed's fit${p.why ? `; the law does not apply: ${p.why}` : ""}` });

const hiddenRows = new Set();
let current = null;

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) found.push(+t.toPrecision(10));
  return found;
}

function scale(spec, series, width, height) {
  const xs = series.flatMap((s) => s.points.map((p) => p.x)), ys = series.flatMap((s) => s.points.flatMap((p) => [p.low ?? p.y, p.high ?? p.y]));
  const wide = (values, zero) => { let a = zero ? 0 : Math.min(...values), b = Math.max(...values); const pad = (b - a || Math.abs(b) || 1) * 0.05; return [zero ? 0 : a - pad, b + pad]; };
  const at = spec.log ? Math.log2 : (v) => v;
  const [x0, x1] = spec.log ? [0, Math.max(1, at(Math.max(...xs)))] : spec.flat ? [Math.min(...xs), Math.max(...xs) || 1] : wide(xs), [y0, y1] = wide(ys, spec.zero);
  const box = { left: 44, right: width - 12, top: 22, bottom: height - 36 };
  return { box, x0, x1, y0, y1, x: (v) => box.left + (at(v) - x0) / (x1 - x0 || 1) * (box.right - box.left), y: (v) => box.bottom - (v - y0) / (y1 - y0 || 1) * (box.bottom - box.top) };
}

function axes(svg, spec, s) {
  const { box } = s, xt = spec.log ? [1, 2, 4, 8, 16, 32, 64, 128].filter((k) => Math.log2(k) <= s.x1 + 1e-9) : ticks(s.x0, s.x1, Math.max(4, (box.right - box.left) / 90));
  for (const t of ticks(s.y0, s.y1, 5)) {
    make("line", { x1: box.left, x2: box.right, y1: s.y(t), y2: s.y(t), class: "grid" }, svg);
    make("text", { x: box.left - 6, y: s.y(t) + 4, "text-anchor": "end" }, svg).textContent = t;
  }
  for (const t of xt) {
    make("line", { x1: s.x(t), x2: s.x(t), y1: box.top, y2: box.bottom, class: "grid" }, svg);
    make("text", { x: s.x(t), y: box.bottom + 15, "text-anchor": "middle" }, svg).textContent = t;
  }
  if (spec.at != null && spec.at > s.x0 && spec.at < s.x1) make("line", { x1: s.x(spec.at), x2: s.x(spec.at), y1: box.top, y2: box.bottom, class: "level" }, svg);
  make("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" }, svg);
  make("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, svg).textContent = spec.x;
  make("text", { x: 0, y: 9 }, svg).textContent = spec.y;
}

function drawSeries(svg, spec, s, { row, points }) {
  const group = paint(make("g", { class: "series", "data-row": row.id }, svg), row.look), line = row.look;
  const path = (list) => list.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  if (points.some((p) => p.low != null && p.low !== p.high)) {
    make("path", { class: "band", d: path([...points.map((p) => [s.x(p.x), s.y(p.high)]), ...points.map((p) => [s.x(p.x), s.y(p.low)]).reverse()]) + "Z" }, group);
  }
  if (spec.scatter) {
    const fit = spec.fit(row), [a, b] = [points[0].x, points[points.length - 1].x];
    const curve = Array.from({ length: 25 }, (_, i) => a + (b - a) * i / 24).map((x) => [s.x(x), s.y(fit(x))]).filter(([, y]) => y >= s.box.top && y <= s.box.bottom);
    make("path", { class: "look", d: path(curve), "stroke-width": line.width, "stroke-dasharray": line.dashes.map((d) => d * line.width).join(" ") }, group);
    points.forEach((p) => mark(line, s.x(p.x), s.y(p.y), 2.6, group));
    return;
  }
  const flat = spec.flat && points.length === 1 ? [[s.box.left, s.y(points[0].y)], [s.box.right, s.y(points[0].y)]] : points.map((p) => [s.x(p.x), s.y(p.y)]);
  make("path", { class: "look", d: path(flat), "stroke-width": line.width, "stroke-dasharray": line.dashes.map((d) => d * line.width).join(" "), "stroke-linejoin": "round" }, group);
  const every = spec.log ? (i) => Math.log2(i + 1) % 1 === 0 : spec.last ? () => true : (i) => i % Math.max(1, Math.ceil(points.length / 8)) === 0;
  if (flat.length === points.length) points.forEach((p, i) => { if (every(i)) mark(line, s.x(p.x), s.y(p.y), spec.last && i === points.length - 1 ? 5.5 : 3, group).setAttribute("vector-effect", "non-scaling-stroke"); });
}

function draw(figure) {
  if (figure.dataset.plot === "delta") { forest(figure); return; }
  const data = current, spec = PLOTS[figure.dataset.plot](data);
  const series = data.rows.map((row) => ({ row, points: spec.points(row) })).filter((s) => s.points?.length && !hiddenRows.has(s.row.id));
  const old = one("svg", figure), width = Math.max(280, figure.clientWidth - 28), height = Math.round(Math.min(440, Math.max(270, width * 0.6)));
  if (!one(".plot-head", figure)) {
    figure.innerHTML = `<div class="plot-head"><h3></h3></div><figcaption></figcaption>`;
    if (spec.choice?.length > 1) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", "What the first plot shows");
      select.innerHTML = spec.choice.map((k) => `<option value="${k}">${esc(TRACES[k][0])}</option>`).join("");
      select.addEventListener("change", () => { quantity = select.value; draw(figure); });
      one(".plot-head", figure).append(select);
    }
  }
  one("h3", figure).textContent = spec.title;
  one("figcaption", figure).textContent = series.length ? spec.caption : "No data for the rows that are shown.";
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "application", "aria-label": `${spec.title}: ${series.length} curves; arrow keys walk through the values` });
  if (old) old.replaceWith(svg); else figure.append(svg);
  if (!series.length) return;
  const s = scale(spec, series, width, height);
  axes(svg, spec, s);
  // the reference and the base model on top
  const order = (r) => (r.role === "base" ? 1 : r.label === data.reference ? 2 : 0);
  series.sort((a, b) => order(a.row) - order(b.row)).forEach((one_) => drawSeries(svg, spec, s, one_));
  hover(svg, spec, s, series, width);
}

function highlight(id) {
  for (const svg of all("figure svg")) {
    svg.classList.toggle("hot", Boolean(id) && Boolean(one(`[data-row="${CSS.escape(id)}"]`, svg)));
    all(".series", svg).forEach((g) => g.classList.toggle("on", g.dataset.row === id));
  }
}

function hover(svg, spec, s, series, width) {
  const ring = make("circle", { r: 6.5, class: "look", "stroke-width": 2, visibility: "hidden" }, svg);
  const show = (found, x, y) => {
    const { row } = found.series, point = found.series.points[found.index];
    highlight(row.id);
    paint(ring, row.look);
    ring.setAttribute("cx", s.x(point.x)); ring.setAttribute("cy", s.y(point.y)); ring.setAttribute("visibility", "visible");
    showTip(`<b>${esc(row.label)}</b><br>${esc(spec.say(point))}`, x, y);
  };
  const clear = () => { highlight(null); hideTip(); ring.setAttribute("visibility", "hidden"); };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), k = width / box.width, x = (event.clientX - box.left) * k, y = (event.clientY - box.top) * k;
    let best = null;
    for (const one_ of series) one_.points.forEach((p, index) => {
      const dx = one_.points.length === 1 && spec.flat ? 0 : s.x(p.x) - x, d = Math.hypot(dx, s.y(p.y) - y);
      if (!best || d < best.d) best = { d, index, series: one_ };
    });
    return best && best.d < 60 ? best : null;
  };
  const move = (event) => { const found = nearest(event); if (found) show(found, event.clientX, event.clientY); else clear(); };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", clear);
  let at = [0, 0];
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    if (event.key === "Escape") clear();
    if (!step) return;
    event.preventDefault();
    const row = (at[0] + step[0] + series.length) % series.length, last = series[row].points.length - 1;
    at = [row, Math.max(0, Math.min(last, at[1] + step[1]))];
    const box = svg.getBoundingClientRect(), point = series[row].points[at[1]], k = box.width / width;
    show({ series: series[row], index: at[1] }, box.left + s.x(point.x) * k, box.top + s.y(point.y) * k);
  });
  svg.addEventListener("blur", clear);
}

// With many methods the first view has the base model, the reference, and the best rows by score, ranked ones first.
const FIRST_VIEW = 10;
function best(data, count) {
  const rows = data.tables[0].lines.filter((l) => l.row.startsWith("method/")).sort((a, b) => !a.rank - !b.rank || (b.pass_at[1] ?? -1) - (a.pass_at[1] ?? -1)).map((l) => l.row);
  const always = data.rows.filter((r) => r.role === "base" || (r.role === "method" && r.label === data.reference)).map((r) => r.id);
  return new Set([...always, ...rows.slice(0, count)]);
}

function legend(here) {
  const box = one(".legend", here);
  const redraw = () => { all("figure[data-plot]", here).forEach(draw); all("button[data-row]", box).forEach((b) => b.setAttribute("aria-pressed", !hiddenRows.has(b.dataset.row))); };
  const only = (ids) => { hiddenRows.clear(); current.rows.forEach((r) => { if (!ids.has(r.id)) hiddenRows.add(r.id); }); redraw(); };
  if (!box.childElementCount) {
    const every = new Set(current.rows.map((r) => r.id)), methods = current.rows.filter((r) => r.role === "method").length;
    const sets = [["all", every], ["none", new Set()], ["without controls", new Set(current.rows.filter((r) => r.role !== "control").map((r) => r.id))]];
    if (methods > FIRST_VIEW) sets.splice(1, 0, [`best ${FIRST_VIEW}`, best(current, FIRST_VIEW)]);
    for (const [label, ids] of sets) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "set", textContent: label });
      button.addEventListener("click", () => only(ids));
      box.append(button);
    }
    for (const row of current.rows) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.row = row.id;
      button.append(swatch(row.look), row.label);
      button.addEventListener("click", () => { if (!hiddenRows.delete(row.id)) hiddenRows.add(row.id); redraw(); });
      button.addEventListener("pointerenter", () => highlight(row.id));
      button.addEventListener("pointerleave", () => highlight(null));
      box.append(button);
    }
    only(methods > 2 * FIRST_VIEW ? best(current, FIRST_VIEW) : every);
  } else redraw();
}

function showPlace(here) {
  const data = DATA.places[here.dataset.place];
  if (data === current) { all('figure[data-plot="delta"]', here).forEach(draw); return; }  // it follows the filters
  current = data;
  hiddenRows.clear();
  one(".legend", here).replaceChildren();
  legend(here);
}
document.addEventListener("place", (event) => showPlace(event.detail));
new ResizeObserver(() => { if (current) all(".place:not([hidden]) figure[data-plot]").forEach(draw); }).observe(one("main"));
filter();
