"""The generated pages of docs/methods: current, complete, and made again from the cards."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.cli import main
from harness.registry import analyses, cards, methods
from harness.registry.costs import MEASURED, cost_page, cost_table
from harness.registry.pages import COSTS, INDEX, MARK, PEERS, checkout, differing, golden_cases, pages, write
from harness.util.files import write_json

ROOT = Path(__file__).parents[2]


def test_the_pages_in_the_checkout_are_current() -> None:
    stale = differing(ROOT / "docs" / "methods", pages(ROOT))
    assert not stale, f"{', '.join(stale)} not current; run: entrobench methods docs"


def test_pages_hold_what_a_reader_looks_for() -> None:
    assert checkout() == ROOT
    made = pages(ROOT)
    entries = methods.entries()
    known = [*entries.values(), *analyses.entries().values()]
    assert set(made) == {INDEX, COSTS, PEERS, *(f"{entry.slug}.md" for entry in known)}
    for entry in entries.values():
        page, card = made[f"{entry.slug}.md"], cards.read_card(entry)
        assert page.startswith(MARK) and f"(`{entry.name}`)" in page and card.paper in page
        assert all(f"- {text}" in page for text in card.deviations)
        for heading in (
            "Formula",
            "Hyper-parameters",
            "Deviations",
            "Reported",
            "Pitfalls",
            "Golden vectors",
        ):
            assert f"\n## {heading}" in page, (entry.name, heading)
        for field in fields(methods.load(entry.name)):
            assert f"| method.{field.name} | {field.default} |" in page
        assert f"[`{entry.name}`]({entry.slug}.md)" in made[INDEX]
    for entry in analyses.entries().values():
        page, card = made[f"{entry.slug}.md"], cards.read_card(entry)
        assert card.track == cards.ANALYSIS and f"entrobench analyse {entry.name} RUN" in page
        assert all(f"- {text}" in page for text in card.deviations) and "| method." not in page
        for heading in ("Formula", "Settings", "Deviations", "Reported", "Pitfalls", "Golden vectors"):
            assert f"\n## {heading}" in page, (entry.name, heading)
        for field in fields(analyses.load(entry.name)):
            assert f"| {field.name} | {field.default} |" in page
        assert f"[`{entry.name}`]({entry.slug}.md)" in made[INDEX].partition("## Track: analysis")[2]
    assert "## Track: main" in made[INDEX]
    assert "CARE" in made[INDEX].partition("## Not built")[2]
    assert all(name in made[INDEX] for name in methods.diagnostics())


def test_the_page_of_costs_has_every_measured_entry_and_names_the_others(tmp_path: Path) -> None:
    ratio = {"ratio_median": 1.234, "ratio_min": 1.1, "ratio_max": 1.3}
    row = {
        "update": ratio, "token": ratio, "step": ratio, "updated_tokens": {"ours": 6, "grpo": 4},
        "extra_passes": {"pre-pass": 1.0}, "extra_statistics": ["prompt_logp"],
    }  # fmt: skip
    write_json(tmp_path / MEASURED, {"micro": {"gspo": row, "gone": row, "sspo": {"refused": "because"}}})
    page = cost_page(tmp_path, ["grpo", "gspo", "sspo"])
    line = "| `gspo` | 1.23 (1.10 to 1.30) | 1.50 | 1.23 | 1.23 | 1 pre-pass, statistic `prompt_logp` |"
    assert line in page and "| `sspo` | refused |  |  |  | because |" in page and "gone" not in page
    for tokens, words in ((7, "`prompt_logp`, 1.75 times the tokens with prompts |"), (6, line[-30:])):
        table = cost_table({"gspo": row | {"network_tokens": {"ours": tokens, "grpo": 4}}})
        assert words in table, tokens
    assert "Not measured: `grpo`.\n" in page and page.endswith("Not measured: `grpo`, `gspo`, `sspo`.")
    assert "Not measured" not in pages(ROOT)[COSTS], "run: python -m tests.performance.bench_methods"


def test_golden_status_is_read_from_the_cases(tmp_path: Path) -> None:
    assert golden_cases(tmp_path / "none").short == "none"
    (tmp_path / "case1.json").write_text('{"source": {"repo": "a/b", "commit": "0123456789"}}')
    (tmp_path / "case2.json").write_text('{"source": [{"derived": "from the formula"}]}')
    found = golden_cases(tmp_path)
    assert (found.cases, found.code, found.derived, found.short) == (2, ("a/b 0123456",), True, "2 cases")


def test_what_is_not_current_is_named_and_mended(tmp_path: Path, capsys: Any) -> None:
    made = pages(ROOT)
    assert main(["methods", "docs", "--dir", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(made)
    own = tmp_path / "notes.md"
    own.write_text("by hand\n")
    (tmp_path / "gone.md").write_text(f"{MARK}\nof a method that is no more\n")
    (tmp_path / "grpo.md").write_text(made["grpo.md"] + "x")
    (tmp_path / INDEX).unlink()
    capsys.readouterr()
    assert main(["methods", "docs", "--check", "--dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert [Path(line.split()[-1]).name for line in out.splitlines()[:-1]] == [INDEX, "gone.md", "grpo.md"]
    assert out.splitlines()[-1] == "remedy: entrobench methods docs"
    assert write(tmp_path, made) == [INDEX, "gone.md", "grpo.md"]
    assert own.exists() and not (tmp_path / "gone.md").exists()
    assert main(["methods", "docs", "--check", "--dir", str(tmp_path)]) == 0
