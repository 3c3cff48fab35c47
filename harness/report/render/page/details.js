// What stands behind a number: a tip on hover or focus, and a dialog with the runs on click, tap or Enter.
const pct = (share, digits = 1) => share == null ? "–" : (100 * share).toFixed(digits) + " %";
const esc = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const short = (value) => typeof value === "number" && !Number.isInteger(value) ? +value.toPrecision(5) : value;
const settings = (values) => values && typeof values === "object"
  ? Object.keys(values).sort().map((k) => `${k} = ${typeof values[k] === "string" ? values[k] : JSON.stringify(values[k])}`).join(", ")
  : values ?? "";

const dataOf = (element) => DATA.places[element.closest(".place").dataset.place];
const rowOf = (element) => dataOf(element).rows.find((row) => row.id === element.closest("[data-row]").dataset.row);

function lineOf(element) {
  const data = dataOf(element), set = element.closest("[data-set]")?.dataset.set ?? data.tables[0].name;
  const id = element.closest("[data-row]").dataset.row;
  return data.tables.find((t) => t.name === set).lines.find((line) => line.row === id);
}

function intervalWords(interval) {
  if (!interval) return "no interval";
  const span = `${(100 * interval.low).toFixed(1)} to ${pct(interval.high)}`;
  if (interval.kind === "range") return `seeds from ${span} (fewer than three: a range, not an interval)`;
  return `95 % interval ${span}` + (interval.kind === "problems" ? " (problems only: it was not trained)" : "");
}

const signed = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
const holm = (p) => p == null ? "" : `p ${p < 0.001 ? "< 0.001" : "= " + p.toFixed(3)} (Holm)`;
const deltaWords = (line) => `${signed(line.delta)} points${line.delta_low == null ? "" : `, 95 % interval ${signed(line.delta_low)} to ${signed(line.delta_high)} (not corrected)`}`;

// Who judged a row on a set; on all sets where the cell is of none.
const graders = (row, set) => [...new Set(Object.entries(row.runs[0]?.evals ?? {}).filter(([name]) => !row.runs[0].evals[set] || name === set).map(([, e]) => `graded by ${e.graded_by}`))];

function tipFor(cell) {
  const row = rowOf(cell), line = lineOf(cell), run = row.runs[0], set = cell.closest("[data-set]")?.dataset.set, head = cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
  const what = head.textContent.replace(/[↕↑↓]/g, "").trim();
  const score = what.startsWith("pass@") || ["interval", "delta"].includes(cell.dataset.key);
  const p = line.p_holm == null ? "" : `<small>against ${esc(dataOf(cell).reference)}: ${deltaWords(line)}, ${holm(line.p_holm)}</small>`;
  return `<b>${esc(row.label)}</b> · ${esc(what)}<br><span class="big">${esc(cell.dataset.tip ?? cell.textContent.trim())}</span>`
    + (score ? `<small>pass@1 ${pct(line.pass_at[1])}, ${intervalWords(line.interval)}</small>${p}` : `<small>${esc(head.title)}</small>`)
    + `<small>${row.role === "base" ? "not trained" : `seeds ${line.seeds.join(", ")}`} · commit ${esc(String(run.commit ?? "unknown").slice(0, 10))}`
    + ` · method file ${esc(String(run.method_hash ?? "unknown").slice(0, 10))}</small><small>${esc(graders(row, set).join(", "))}</small><small>click for the runs</small>`;
}

const tip = one("#tip");
let shownAt = [0, 0];
function showTip(html, x, y) {
  shownAt = [scrollX, scrollY];
  tip.innerHTML = html;
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  tip.style.left = Math.max(8, Math.min(x + gap, innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + gap + box.height > innerHeight - 8 ? Math.max(8, y - gap - box.height) : y + gap) + "px";
}
const hideTip = () => { tip.hidden = true; };

const facts = (pairs) => `<dl>${pairs.filter(([, v]) => v !== "" && v != null).map(([k, v]) => `<dt>${esc(k)}</dt><dd>${v}</dd>`).join("")}</dl>`;

function runsTable(row) {
  const skip = new Set(["evals", "budget", "run_id", "seed", "sweep", "model", "benchmark"]);
  const keys = [...new Set(row.runs.flatMap((run) => Object.keys(run)))].filter((k) => !skip.has(k));
  const differs = (k) => new Set(row.runs.map((run) => JSON.stringify(run[k]))).size > 1;
  const own = keys.filter(differs), shared = keys.filter((k) => !differs(k));
  const budget = [...new Set(row.runs.flatMap((run) => Object.keys(run.budget ?? {})))];
  const cells = (run) => [run.run_id, run.seed, ...own.map((k) => run[k]), ...budget.map((k) => run.budget?.[k])];
  const table = `<div class="table"><table><thead><tr>${["run", "seed", ...own, ...budget].map((h) => `<th>${esc(h.replaceAll("_", " "))}</th>`).join("")}</tr></thead><tbody>`
    + row.runs.map((run) => `<tr>${cells(run).map((c, i) => `<td>${i ? esc(short(c) ?? "–") : `<code>${esc(c ?? "–")}</code>`}</td>`).join("")}</tr>`).join("") + "</tbody></table></div>";
  return table + facts(shared.map((k) => [k.replaceAll("_", " "), `<code>${esc(short(row.runs[0][k]))}</code>`]));
}

function judged(row) {
  const sets = Object.keys(row.runs[0]?.evals ?? {});
  const keys = [...new Set(row.runs.flatMap((r) => sets.flatMap((s) => Object.keys(r.evals[s] ?? {}))))];
  if (!sets.length || !keys.length) return "";
  return `<h3>How it was evaluated</h3><div class="table"><table><thead><tr><th>set</th><th>seed</th>${keys.map((k) => `<th>${esc(k.replaceAll("_", " "))}</th>`).join("")}</tr></thead><tbody>`
    + sets.map((s) => row.runs.map((run) => `<tr><td>${esc(s)}</td><td>${esc(run.seed)}</td>${keys.map((k) => { const v = run.evals[s]?.[k]; return `<td>${esc(v == null ? "–" : typeof v === "number" ? +v.toPrecision(4) : v)}</td>`; }).join("")}</tr>`).join("")).join("") + "</tbody></table></div>";
}

function scores(data, row) {
  const ks = data.tables[0].pass_ks;
  return `<div class="table"><table><thead><tr><th>set</th>${ks.map((k) => `<th>pass@${k}</th>`).join("")}<th>pass@1, 95 %</th><th>Δ to ${esc(data.reference)}</th></tr></thead><tbody>`
    + data.tables.map((t) => {
      const line = t.lines.find((l) => l.row === row.id);
      const delta = line.delta == null ? "–" : `${signed(line.delta)}${line.delta_low == null ? "" : ` [${signed(line.delta_low)}, ${signed(line.delta_high)}]`} ${holm(line.p_holm)}`;
      return `<tr><td>${esc(t.name)}</td>${ks.map((k) => `<td>${pct(line.pass_at[k])}</td>`).join("")}<td>${esc(intervalWords(line.interval).replace("95 % interval ", ""))}</td><td>${delta}</td></tr>`;
    }).join("") + "</tbody></table></div>";
}

// What the runs used in the end, whatever tuning chose and a control changed.
function ranWith(row) {
  const run = row.runs[0] ?? {}, parts = [];
  if (run["train.lr"] != null && row.role !== "base") parts.push(`learning rate ${run["train.lr"]}`);
  if (run["eval.temperature"] != null) parts.push(`evaluated at temperature ${run["eval.temperature"]}`);
  if (run["eval.weights"] && row.role !== "base") {
    const steps = [...new Set(row.runs.map((r) => r.evaluated_step).filter((s) => s != null))];
    parts.push(`${run["eval.weights"]} weights${steps.length ? ` (step ${steps.join(", ")})` : ""}`);
  }
  return parts.join(", ");
}

function openDetails(element) {
  hideTip();
  const data = dataOf(element), row = rowOf(element), line = data.tables[0].lines.find((l) => l.row === row.id);
  const dialog = one("#details");
  dialog.innerHTML = `<button class="close" type="button" aria-label="Close">✕</button><h2 id="details-title">${esc(row.label)}</h2>`
    + (row.title && row.title !== row.label ? `<p class="lead">${esc(row.title)}</p>` : "")
    + line.marks.map((m) => `<span class="mark">${esc(m)}</span>`).join("")
    + facts([["paper", row.link ? `<a href="${esc(row.link)}" rel="noopener">${esc(row.paper)}</a>` : esc(row.paper ?? "")],
      ["method page", row.page ? `<a href="${esc(row.page)}">formula, deviations, reported numbers</a>` : ""],
      ["track", esc(row.track ?? "")], ["fidelity", esc(row.fidelity ?? "")], ["tuned", row.role === "method" ? (row.tuned ? "yes" : "no") : ""],
      [row.role === "control" ? "tuning of its method chose" : "tuning chose", esc(settings(row.tuning_choice)) || (row.role === "base" ? "" : "nothing: it was not tuned")],
      ["changes", esc(settings(row.changes))], ["ran with", esc(ranWith(row))], ["hyper-parameters", esc(settings(row.hyperparameters))]])
    + `<h3>Scores</h3>${scores(data, row)}<h3>Runs</h3>${runsTable(row)}${judged(row)}`;
  one(".close", dialog).addEventListener("click", () => dialog.close());
  dialog.showModal();
  dialog.scrollTop = 0;
}

one("#details").addEventListener("click", (event) => { if (event.target === event.currentTarget) event.currentTarget.close(); });
for (const row of all(".place tr[data-row]")) {
  row.addEventListener("pointermove", (event) => {
    const cell = event.pointerType === "mouse" && event.target.closest("td, th");
    if (cell) showTip(tipFor(cell), event.clientX, event.clientY);
  });
  row.addEventListener("pointerleave", hideTip);
  row.addEventListener("click", (event) => openDetails(event.target));
}
for (const item of all(".methods [data-row] .name")) item.addEventListener("click", (event) => openDetails(event.target));
for (const name of all("tr .name")) {
  name.addEventListener("focus", () => { const box = name.getBoundingClientRect(); if (name.matches(":focus-visible")) showTip(tipFor(name.closest("th")), box.right, box.bottom); });
  name.addEventListener("blur", hideTip);
}
// A browser tells of a scroll a frame later: one that ended before the tip was shown does not take it away.
addEventListener("scroll", () => { if (scrollX !== shownAt[0] || scrollY !== shownAt[1]) hideTip(); }, { passive: true });
