// Sorting, filtering and choosing what is shown. Every block is sorted on its own: controls, tracks and
// reconstructions never mix. Missing values stay last.
const one = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];
const DATA = JSON.parse(one("#data").textContent);

function sortBy(head) {
  const index = head.cellIndex, table = head.closest("table"), now = head.getAttribute("aria-sort");
  const down = now ? now !== "descending" : !("up" in head.dataset);
  all("thead th", table).forEach((th) => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.cells[index].dataset.sort ?? "";
  for (const body of table.tBodies) {
    const rows = [...body.rows].slice(1).sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    body.append(...rows);
  }
}

const chosen = (id) => one("#" + id)?.value ?? "";

function place() {
  const places = all(".place"), model = chosen("model"), training = chosen("training");
  return places.find((p) => (!model || p.dataset.model === model) && (!training || p.dataset.training === training));
}

function filter() {
  const here = place(), track = chosen("track"), words = chosen("find").trim().toLowerCase();
  const ranked = one("#ranked").checked;
  all(".place").forEach((p) => { p.hidden = p !== here; });
  if (!here) { one("#shown").value = "No runs of this model on this training set"; return; }
  const sets = all("[data-set]", here);
  const wanted = sets.some((s) => s.dataset.set === chosen("benchmark")) ? chosen("benchmark") : sets[0]?.dataset.set;
  sets.forEach((s) => { s.hidden = s.dataset.set !== wanted; });
  const names = new Map(DATA.places[here.dataset.place].rows.map((row) => [row.id, `${row.label} ${row.title ?? ""}`.toLowerCase()]));
  // Controls stay whatever the track: they are what every track is compared with.
  const keep = (row) => (!track || row.dataset.track === track || row.dataset.track === "")
    && (!words || (names.get(row.dataset.row) ?? "").includes(words)) && (!ranked || "ranked" in row.dataset || !row.cells);
  for (const row of all("[data-row]", here)) row.hidden = !keep(row);
  for (const body of all("tbody", here)) body.hidden = ![...body.rows].slice(1).some((row) => !row.hidden);
  const rows = all(`[data-set="${wanted}"] tbody tr[data-row]`, here);
  one("#shown").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  document.dispatchEvent(new CustomEvent("place", { detail: here }));
}

all("thead button").forEach((button) => button.addEventListener("click", () => sortBy(button.parentElement)));
for (const id of ["model", "training", "benchmark", "track", "ranked"]) one("#" + id)?.addEventListener("change", filter);
one("#every").addEventListener("change", (event) => all("main table").forEach((t) => t.classList.toggle("every-k", event.target.checked)));
one("#find").addEventListener("input", filter);
one(".bar").hidden = false;

const theme = one("#theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
