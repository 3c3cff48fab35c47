// The differences to the reference: a line a row with its own 95 % interval, for the rows and the set that the
// filters above show. Filled marks differ beyond chance after Holm's correction.
function forestBlocks(here, data) {
  const shown = one("[data-set]:not([hidden])", here), table = data.tables.find((t) => t.name === shown?.dataset.set) ?? data.tables[0];
  const visible = new Set(all("tr[data-row]:not([hidden])", shown ?? here).map((tr) => tr.dataset.row));
  const found = { Methods: [], Reconstructions: [], Controls: [] }, rows = new Map(data.rows.map((row) => [row.id, row]));
  for (const line of table.lines) {
    if (line.delta == null || !visible.has(line.row)) continue;
    const row = rows.get(line.row);
    found[row.role !== "method" ? "Controls" : row.reconstruction ? "Reconstructions" : "Methods"].push({ line, row });
  }
  for (const list of Object.values(found)) list.sort((a, b) => b.line.delta - a.line.delta);
  return { table, blocks: Object.entries(found).filter(([, list]) => list.length) };
}

// Ends of the axis in points: they hold the band, zero, and every row within four smallest detectable differences.
function forestReach(table, lines) {
  const least = 100 * (table.detectable ?? 0), far = least ? 4 * least : Infinity, ends = [0, -least, least];
  for (const line of lines) if (Math.abs(100 * line.delta) <= far) ends.push(100 * (line.delta_low ?? line.delta), 100 * (line.delta_high ?? line.delta));
  const low = Math.min(...ends), high = Math.max(...ends), room = 0.04 * (high - low || 1);
  return [low - room, high + room];
}

function forest(figure) {
  const data = current, here = figure.closest(".place"), { table, blocks } = forestBlocks(here, data);
  const entries = blocks.flatMap(([, list]) => list), old = one("svg", figure), ROW = 20, HEAD = 26;
  if (!one("h3", figure)) figure.innerHTML = `<div class="plot-head"><h3></h3></div><figcaption></figcaption>`;
  one("h3", figure).textContent = `Difference in pass@1 to ${data.reference}`;
  const least = table.detectable == null ? "" : ` Band: ± ${(100 * table.detectable).toFixed(1)} points; a true difference of that size is found with 80 % probability.`;
  one("figcaption", figure).textContent = entries.length
    ? `In points, ${table.name === "average" ? "averaged over the test sets" : "on " + table.name}, with each row's own 95 % interval over seeds and problems, not corrected for their number. Filled: differs beyond chance after Holm's correction over ${table.comparisons} rows.${least}`
    : "No difference to show for these rows.";
  const width = Math.max(280, figure.clientWidth - 28), narrow = width < 620, height = entries.length * ROW + blocks.length * HEAD + 42;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "application", "aria-label": `Difference in pass@1 to ${data.reference}: ${entries.length} rows; arrow keys walk through them` });
  if (old) old.replaceWith(svg); else figure.append(svg);
  if (!entries.length) return;
  const box = { left: narrow ? 128 : 210, right: width - (narrow ? 10 : 150), top: 4, bottom: height - 36 };
  const [x0, x1] = forestReach(table, entries.map((e) => e.line)), x = (share) => box.left + (100 * share - x0) / (x1 - x0) * (box.right - box.left);
  if (table.detectable != null) make("rect", { class: "least", x: x(-table.detectable), width: x(table.detectable) - x(-table.detectable), y: box.top, height: box.bottom - box.top }, svg);
  for (const t of ticks(x0, x1, Math.max(5, (box.right - box.left) / 70))) {
    make("line", { x1: x(t / 100), x2: x(t / 100), y1: box.top, y2: box.bottom, class: t === 0 ? "zero" : "grid" }, svg);
    make("text", { x: x(t / 100), y: box.bottom + 15, "text-anchor": "middle" }, svg).textContent = t;
  }
  make("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, svg).textContent = `points of pass@1 against ${data.reference}`;
  let y = box.top;
  const spots = [];
  for (const [name, list] of blocks) {
    make("text", { x: box.left - 10, y: y + HEAD - 8, "text-anchor": "end", class: "block-name" }, svg).textContent = name;
    y += HEAD;
    for (const entry of list) { spots.push(forestRow(svg, entry, { x, y: y + ROW / 2, box, ROW, narrow, ends: [x0, x1] })); y += ROW; }
  }
  forestKeys(svg, spots, width);
}

function forestRow(svg, { line, row }, s) {
  const group = paint(make("g", { class: "series", "data-row": row.id }, svg), row.look), told = line.p_holm != null && line.p_holm < 0.05;
  make("rect", { x: 0, width: s.box.right + 150, y: s.y - s.ROW / 2, height: s.ROW, class: "catch" }, group);
  const held = (at) => Math.min(Math.max(at, s.box.left), s.box.right);
  if (line.delta_low != null) make("line", { class: "look", "stroke-width": 2, x1: held(s.x(line.delta_low)), x2: held(s.x(line.delta_high)), y1: s.y, y2: s.y }, group);
  const at = 100 * line.delta;
  if (at < s.ends[0] || at > s.ends[1]) {
    const out = at < 0 ? s.box.left : s.box.right, way = at < 0 ? 1 : -1;
    make("path", { class: "fill", d: `M${out} ${s.y}l${8 * way} -4.5v9Z` }, group);
  } else if (told) mark(row.look, s.x(line.delta), s.y, 4.4, group);
  else mark(row.look, s.x(line.delta), s.y, 4, group).setAttribute("class", "open");
  // variants of one method differ at the end of their names
  const clipped = (text) => s.narrow && text.length > 18 ? `${text.slice(0, 6)}…${text.slice(-11)}` : text;
  make("text", { x: s.box.left - 10, y: s.y + 4, "text-anchor": "end", class: told ? "row-name told" : "row-name" }, group).textContent = clipped(row.label.replace(" (control)", ""));
  if (!s.narrow) make("text", { x: s.box.right + 12, y: s.y + 4, class: told ? "told" : "" }, group).textContent = signed(line.delta) + (line.delta_low == null ? "" : ` [${signed(line.delta_low)}, ${signed(line.delta_high)}]`);
  const say = `<b>${esc(row.label)}</b><br>${signed(line.delta)} points${line.delta_low == null ? "" : `<br>95 % interval ${signed(line.delta_low)} to ${signed(line.delta_high)}, not corrected`}<small>${holm(line.p_holm) || (row.role === "base" ? "not trained: no p" : "fewer than three seeds in common: no interval")}</small>${line.marks.length ? `<small>${esc(line.marks.join(", "))}</small>` : ""}<small>click for the runs</small>`;
  const show = (left, top) => { highlight(row.id); showTip(say, left, top); }, clear = () => { highlight(null); hideTip(); };
  group.addEventListener("pointermove", (event) => show(event.clientX, event.clientY));
  group.addEventListener("pointerleave", clear);
  group.addEventListener("click", () => openDetails(group));
  return { group, show, clear, x: Math.min(Math.max(s.x(line.delta), s.box.left), s.box.right), y: s.y };
}

function forestKeys(svg, spots, width) {
  let at = -1;
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") spots[0].clear();
    if (event.key === "Enter" && spots[at]) openDetails(spots[at].group);
    if (!step) return;
    event.preventDefault();
    at = at < 0 && step < 0 ? spots.length - 1 : (at + step + spots.length) % spots.length;
    const box = svg.getBoundingClientRect(), k = box.width / width;
    spots[at].show(box.left + spots[at].x * k, box.top + spots[at].y * k);
  });
  svg.addEventListener("blur", () => spots[0].clear());
}
