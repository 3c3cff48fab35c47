"""The leaderboard's page in a real browser: sorting, filters, plots, details, widths, themes, the console."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.render.files import write_report
from tests.browser import chromium
from tests.helpers.records import typed
from tests.unit.test_report import EXPECTED, card, rows_of, standard

pytestmark = pytest.mark.browser

TRACE = {
    "step": [20, 40, 60, 80],
    "generated_tokens": [1, 2, 3, 4],
    "entropy": [0.7, 0.6, 0.5, 0.45],
    "entropy_correct": [0.5, 0.4, 0.4, 0.3],
}


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    reason = chromium.missing()
    if reason:
        pytest.skip(reason)
    browser = chromium.start()
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [
        record
        | {
            "trace": TRACE,
            "frontier": [p | {"entropy_nats": 1 - p["step"] / 160} for p in record["frontier"]],
        }
        if record["role"] != "base"
        else record
        for record in standard()
    ]
    out = tmp_path_factory.mktemp("page")
    pages = {"better": "docs/better.md"}
    write_report(typed(records), out, title="Demo", expected_seeds=EXPECTED, pages=pages)
    return out / "leaderboard.html"


Show = Callable[..., Any]


@pytest.fixture
def show(driver: Any, page: Path) -> Show:
    """Open the page afresh at a width, light or dark, and hand out the driver."""

    def opened(width: int = 1360, *, dark: bool = False, phone: bool = False, path: Path = page) -> Any:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(path.as_uri())
        return driver

    return opened


def js(driver: Any, code: str, *arguments: Any) -> Any:
    return driver.execute_script(code, *arguments)


def click(driver: Any, query: str) -> None:
    js(driver, "document.querySelector(arguments[0]).click()", query)


def choose(driver: Any, query: str, value: str) -> None:
    """Set a control and tell the page, as a person's hand does."""
    js(
        driver,
        "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
        "for (const t of ['input', 'change']) e.dispatchEvent(new Event(t, {bubbles: true}));",
        query,
        value,
    )


def focus(driver: Any, element: Any) -> None:
    """Bring an element into view with the keyboard on it, and wait until the page is at rest.

    The browser tells of a scroll, and of what came to lie under the pointer, one frame later; on a loaded
    machine the next key would be there before that.
    """
    driver.execute_async_script(
        """const [element, done] = arguments; element.scrollIntoView({block: 'center'}); element.focus();
           let last = null, still = 0;
           const look = () => { const now = [scrollX, scrollY].join(); still = now === last ? still + 1 : 0;
             last = now; still < 5 ? requestAnimationFrame(look) : done(); };
           requestAnimationFrame(look);""",
        element,
    )


def column(driver: Any, key: str, block: str) -> list[str]:
    """The sort keys of a column in one block of the table that is shown."""
    return list(
        js(
            driver,
            """const body = [...document.querySelectorAll("[data-set]:not([hidden]) tbody")]
                 .find((b) => b.rows[0].textContent.trim() === arguments[1]);
               return [...body.rows].slice(1).filter((r) => !r.hidden)
                 .map((r) => r.querySelector(`[data-key="${arguments[0]}"]`).dataset.sort);""",
            key,
            block,
        )
    )


def visible(driver: Any) -> set[str]:
    """Rows shown in the table of scores."""
    code = """return [...document.querySelectorAll("[data-set]:not([hidden]) tr[data-row]")]
                .filter((r) => r.checkVisibility()).map((r) => r.dataset.row);"""
    return set(js(driver, code))


def screenshot(driver: Any, path: Path) -> None:
    height = js(driver, "return document.documentElement.scrollHeight")
    width = js(driver, "return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))


def complaints(driver: Any) -> list[str]:
    """What the console said, and every request for anything but the page itself."""
    said = [entry["message"] for entry in driver.get_log("browser")]
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return said + [url for url in asked if not url.startswith(("file:", "data:"))]


def test_sorting_stays_within_blocks_and_is_announced(show: Show) -> None:
    driver = show()
    head = "[data-set]:not([hidden]) thead th:nth-child(3)"
    assert "pass@1" in js(driver, f"return document.querySelector('{head}').textContent")
    click(driver, f"{head} button")
    scores = [float(v) for v in column(driver, "pass@1", "Track: main")]
    assert scores == sorted(scores, reverse=True) and len(scores) == 6
    click(driver, f"{head} button")
    assert js(driver, f"return document.querySelector('{head}').ariaSort") == "ascending"
    scores = [float(v) for v in column(driver, "pass@1", "Track: main")]
    assert scores == sorted(scores)
    ranks = "[data-set]:not([hidden]) thead th:nth-child(1)"
    click(driver, f"{ranks} button")
    found = column(driver, "rank", "Track: main")
    assert found[-2:] == ["", ""] and found[0] != ""  # what has no rank stays last
    click(driver, f"{ranks} button")
    assert column(driver, "rank", "Track: main")[-2:] == ["", ""]
    assert js(driver, "return document.querySelectorAll('[aria-sort]').length") == 1
    assert column(driver, "method", "Reconstructions (never ranked)") == ["rebuilt"]


def test_filters_by_track_benchmark_name_and_rank(show: Show) -> None:
    driver = show()
    everything = visible(driver)
    assert len(everything) == 10
    choose(driver, "#track", "off-policy")
    assert visible(driver) == {"base/base", "control/random-reward", "method/replay"}
    choose(driver, "#track", "")
    choose(driver, "#find", "BETT")
    assert visible(driver) == {"method/better"}
    assert js(driver, "return document.querySelector('#shown').value") == "1 of 10 rows"
    choose(driver, "#find", "")
    click(driver, "#ranked")
    assert visible(driver) == {f"method/{name}" for name in ("better", "grpo", "same", "worse", "replay")}
    click(driver, "#ranked")
    choose(driver, "#benchmark", "test_hard")
    shown = js(
        driver, "return [...document.querySelectorAll('[data-set]:not([hidden])')].map((s) => s.dataset.set)"
    )
    assert shown == ["test_hard"] and visible(driver) == everything
    hidden = (
        "return getComputedStyle(document.querySelector('[data-set=\"test_hard\"] .wide-column')).display"
    )
    assert js(driver, hidden) == "none"
    click(driver, "#every")
    assert js(driver, hidden) == "table-cell"


def test_plots_show_every_row_and_the_legend_rules_them_all(show: Show) -> None:
    driver = show()
    count = """return [...document.querySelectorAll("figure[data-plot]")]
                 .map((f) => [f.dataset.plot, f.querySelectorAll(".series").length]);"""
    assert dict(js(driver, count)) == {"delta": 9, "frontier": 10, "entropy": 10, "passk": 10, "law": 9}
    click(driver, '.legend button[data-row="method/worse"]')
    assert dict(js(driver, count)) == {"delta": 9, "frontier": 9, "entropy": 9, "passk": 9, "law": 8}
    pressed = "return document.querySelector('.legend button[data-row=\"method/worse\"]').ariaPressed"
    assert js(driver, pressed) == "false"
    click(driver, ".legend button.set")  # all
    assert js(driver, pressed) == "true"
    choose(driver, '[data-plot="entropy"] select', "entropy_correct")
    assert dict(js(driver, count))["entropy"] == 9  # the base model was not trained
    assert "right" in js(driver, "return document.querySelector('[data-plot=\"entropy\"] h3').textContent")
    colours = """return ["tr", ".legend button", '[data-plot="frontier"] g', '[data-plot="passk"] g']
                   .map((q) => document.querySelector(`${q}[data-row="method/better"] .fill`))
                   .map((e) => getComputedStyle(e).fill);"""
    assert len(set(js(driver, colours))) == 1  # one colour per method everywhere


def test_the_differences_follow_the_filters_and_lead_to_the_runs(show: Show) -> None:
    from selenium.webdriver import ActionChains, Keys

    driver = show()
    rows = """return [...document.querySelectorAll('[data-plot="delta"] .series')]
                .map((g) => g.dataset.row);"""
    methods = ["better", "partial", "raw", "replay", "same", "worse"]
    order = [f"method/{name}" for name in methods]
    assert js(driver, rows) == [*order, "method/rebuilt", "control/random-reward", "base/base"]
    filled = """return [...document.querySelectorAll('[data-plot="delta"] .series')]
                  .filter((g) => g.querySelector(".fill")).map((g) => g.dataset.row);"""
    told = js(driver, filled)
    assert {"method/better", "method/worse"} <= set(told) and "method/same" not in told
    caption = "return document.querySelector('[data-plot=\"delta\"] figcaption').textContent"
    assert "not corrected" in js(driver, caption) and "averaged over the test sets" in js(driver, caption)
    choose(driver, "#benchmark", "test_hard")
    assert "on test_hard" in js(driver, caption)
    choose(driver, "#benchmark", "average")
    choose(driver, "#track", "off-policy")
    assert js(driver, rows) == ["method/replay", "control/random-reward", "base/base"]
    choose(driver, "#track", "")
    tip = "return document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').textContent"
    svg = driver.find_element("css selector", '[data-plot="delta"] svg')
    focus(driver, svg)
    ActionChains(driver).send_keys(Keys.ARROW_DOWN).perform()
    first = js(driver, tip)
    assert first.startswith("better+") and "95 % interval" in first and "p < 0.001 (Holm)" in first
    on = driver.find_element("css selector", '[data-plot="delta"] .series[data-row="method/worse"] .row-name')
    ActionChains(driver).move_to_element(on).perform()
    assert js(driver, tip).startswith("worse−")
    ActionChains(driver).click(on).perform()
    assert js(driver, "return document.querySelector('dialog h2').textContent") == "worse"
    assert "worse-s1" in js(driver, "return document.querySelector('dialog').textContent")
    assert complaints(driver) == []


def test_hover_and_keys_tell_values(show: Show) -> None:
    from selenium.webdriver import ActionChains, Keys

    driver = show()
    tip = "return document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').textContent"
    cell = driver.find_element(
        "css selector", '[data-set="average"] tr[data-row="method/better"] [data-key="pass@1"]'
    )
    ActionChains(driver).move_to_element(cell).perform()
    told = (
        "better",
        "95 % interval",
        "seeds 1, 2, 3",
        "0123456789",
        "against grpo: +",
        "not corrected",
        "graded by micro@1",
    )
    for text in told:
        assert text in js(driver, tip), text
    svg = driver.find_element("css selector", '[data-plot="passk"] svg')
    focus(driver, svg)
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
    assert "pass@2:" in js(driver, tip)
    before = js(driver, tip)
    ActionChains(driver).send_keys(Keys.ARROW_UP).perform()
    assert "pass@2:" in js(driver, tip) and js(driver, tip) != before
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert js(driver, tip) == ""
    ActionChains(driver).move_to_element(svg).perform()
    mark = driver.find_element("css selector", '[data-plot="passk"] .series[data-row="method/better"] .fill')
    ActionChains(driver).move_to_element(mark).perform()
    assert "pass@" in js(driver, tip)


def test_details_lead_to_runs_card_and_pages(show: Show) -> None:
    from selenium.webdriver import ActionChains, Keys

    driver = show()
    js(driver, "document.querySelector('tr[data-row=\"method/better\"] .name').focus()")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    assert js(driver, "return document.querySelector('dialog').open")
    text = js(driver, "return document.querySelector('dialog').textContent")
    for part in (
        "better-s1",
        "better-s3",
        "bitwise",
        "0123456789abcdef",
        "clip_high = 0.2",
        "lr = 0.0001",
        "test_ood",
        "config hash",
        "method hash",
        "hardware",
        "generated tokens",
        "graded by",
        "micro@1 verifier",
        "the run's own sampling",
    ):
        assert part in text, part
    links = js(driver, "return [...document.querySelectorAll('dialog a')].map((a) => a.getAttribute('href'))")
    assert links == ["https://arxiv.org/abs/2402.03300", "docs/better.md"]
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert not js(driver, "return document.querySelector('dialog').open")
    assert js(driver, "return document.activeElement.closest('[data-row]').dataset.row") == "method/better"


@pytest.mark.parametrize(
    ("width", "dark", "phone"),
    [(1360, False, False), (1360, True, False), (390, False, True), (390, True, True)],
)
def test_fits_the_screen_and_follows_the_theme(
    show: Show, width: int, dark: bool, phone: bool, tmp_path: Path
) -> None:
    driver = show(width, dark=dark, phone=phone)
    assert js(driver, "return document.documentElement.scrollWidth") == width  # only tables scroll sideways
    for figure in js(
        driver,
        "return [...document.querySelectorAll('figure svg')].map((s) => s.getBoundingClientRect().right)",
    ):
        assert figure <= width
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert (js(driver, paper) == "rgb(14, 17, 22)") == dark
    small = """return [...document.querySelectorAll(".bar select, .bar input")]
                 .every((e) => e.getBoundingClientRect().right <= innerWidth);"""
    assert js(driver, small)
    click(driver, "#theme")
    assert (js(driver, paper) == "rgb(14, 17, 22)") != dark
    screenshot(driver, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert complaints(driver) == []


def test_models_and_training_sets_to_choose_from(show: Show, tmp_path: Path) -> None:
    from harness.report.render.files import write_page
    from harness.report.tables.build import build_report

    def built(model: str, training_set: str) -> Any:
        named = {"model_name": model, "training_set": training_set, "model": model}
        records = [record | named for record in rows_of("grpo", 0.0) + rows_of("steer", 0.1)]
        return build_report(typed(records), title=model, subtitle="", expected_seeds=None, reference="grpo")

    reports = [built("small", "gsm8k"), built("small", "math"), built("other", "math")]
    driver = show(path=write_page(reports, tmp_path, title="All", subtitle="", pages={}))
    place = "return document.querySelector('.place:not([hidden])')?.dataset.place"
    assert js(driver, place) == "0" and len(visible(driver)) == 2
    choose(driver, "#training", "math")
    assert js(driver, place) == "1"
    choose(driver, "#model", "other")
    assert js(driver, place) == "2" and len(visible(driver)) == 2
    drawn = "return document.querySelectorAll('.place:not([hidden]) [data-plot=\"passk\"] .series').length"
    assert js(driver, drawn) == 2
    choose(driver, "#training", "gsm8k")
    assert js(driver, place) is None and "No runs" in js(
        driver, "return document.querySelector('#shown').value"
    )
    assert complaints(driver) == []


def test_sixty_methods_stay_small_and_quick(show: Show, tmp_path: Path) -> None:
    records = rows_of("base", -0.15, [0], role="base", activity=None, budget={})
    for i in range(60):
        name = "grpo" if i == 0 else f"method-number-{i}@released"
        track = "main" if i % 3 else "off-policy"
        settings = {f"hyper_parameter_{j}": j / 10 for j in range(12)}
        records += rows_of(name, (i % 9) / 50, method_card=card(track=track), hyperparameters=settings)
    long = {key: [round(0.1 * i, 6) for i in range(25)] for key in (*TRACE, *"abcdefgh")}
    records = [record | {"trace": long} for record in records]
    write_report(typed(records), tmp_path, title="Sixty")
    page = tmp_path / "leaderboard.html"
    assert page.stat().st_size < 3_000_000
    start = time.monotonic()
    driver = show(path=page)
    assert len(visible(driver)) == 61
    drawn = js(driver, "return document.querySelectorAll('[data-plot=\"passk\"] .series').length")
    assert drawn == 12  # the base model, the reference and the ten best
    click(driver, ".legend button.set")
    assert js(driver, "return document.querySelectorAll('[data-plot=\"passk\"] .series').length") == 61
    assert time.monotonic() - start < 60
    assert complaints(driver) == []
