"""The report in a real browser, opened as local files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards.report.slugs import slug

pytestmark = pytest.mark.browser

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""

Browser = Any


def _start() -> Browser:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    browser = _start()
    yield browser
    browser.quit()


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """A browser of the size of a desktop, with scripts; what pages complain about is an error."""
    started.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    started.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    started.get("about:blank")
    started.get_log("browser")
    yield started
    assert [entry for entry in started.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.fixture
def visit(browser: Browser, report: Any) -> Callable[..., Browser]:
    """Opens a page of the report afresh."""

    def opened(page: str, state: str = "") -> Browser:
        browser.get("about:blank")
        browser.get((report.index.parent / page).as_uri() + state)
        return browser

    return opened


def rows(browser: Browser, grid: str) -> list[str]:
    """Names of the rows of a table that can be seen, from the top."""
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll(`table[data-grid='${arguments[0]}'] tbody tr`)]"
        ".filter((row) => row.offsetParent).map((row) => row.cells[0].childNodes[0].textContent)",
        grid,
    )
    return found


def values(browser: Browser, grid: str, column: int) -> list[float | None]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll(`table[data-grid='${arguments[0]}'] tbody tr`)]"
        ".filter((row) => row.offsetParent).map((row) => row.cells[arguments[1]].dataset.v)",
        grid, column,
    )  # fmt: skip
    return [float(text) if text else None for text in found]


def header(browser: Browser, grid: str, column: int) -> Any:
    """The header of a column, which two rows of headers interleave."""
    return browser.execute_script(
        "const [first, second] = [...document.querySelector(`table[data-grid='${arguments[0]}']`).tHead.rows]"
        ".map((row) => [...row.cells]);"
        "const leaves = first.flatMap((cell) => cell.scope === 'colgroup' ? second.splice(0, cell.colSpan) : [cell]);"
        "return leaves[arguments[1]]",
        grid, column,
    )  # fmt: skip


def click(browser: Browser, element: Any) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
    element.find_element("css selector", "button").click()


def test_a_click_sorts_numbers_with_empty_cells_last(visit: Callable[..., Browser]) -> None:
    browser = visit("tables/segmentation.html")
    at = 3  # our DICE
    before = values(browser, "kumar", at)
    assert None in before
    head = header(browser, "kumar", at)
    assert head.get_attribute("aria-sort") == "none"
    for direction, reverse in (("descending", True), ("ascending", False)):
        click(browser, head)
        assert head.get_attribute("aria-sort") == direction
        sorted_values = values(browser, "kumar", at)
        full = [v for v in sorted_values if v is not None]
        assert full == sorted([v for v in before if v is not None], reverse=reverse)
        assert sorted_values[len(full) :] == [None] * (len(before) - len(full))
    assert "kumar.sort=3-ascending" in browser.current_url
    others = [header(browser, "kumar", k).get_attribute("aria-sort") for k in (0, 1, 2, 4)]
    assert others == ["none"] * 4


def test_less_is_better_is_sorted_upwards_first(visit: Callable[..., Browser]) -> None:
    browser = visit("tables/self_supervised.html")
    labels = [header(browser, "monuseg-test", k).text for k in range(8)]
    assert labels[6:8] == ["ours", "Δ"]
    click(browser, header(browser, "monuseg-test", 6))
    full = [v for v in values(browser, "monuseg-test", 6) if v is not None]
    assert full == [7.0, 9.0]


def test_names_are_sorted_by_text(visit: Callable[..., Browser]) -> None:
    browser = visit("index.html")
    click(browser, header(browser, "tables", 0))
    names = rows(browser, "tables")
    assert names == sorted(names, key=str.lower)
    click(browser, header(browser, "tables", 0))
    assert rows(browser, "tables") == names[::-1]


def test_keyboards_sort_too(visit: Callable[..., Browser]) -> None:
    browser = visit("index.html")
    button = header(browser, "tables", 0).find_element("css selector", "button")
    button.send_keys("\ue007")
    assert header(browser, "tables", 0).get_attribute("aria-sort") == "ascending"


def test_filters_work_together_and_stay_in_the_address(visit: Callable[..., Browser], report: Any) -> None:
    browser = visit("tables/segmentation.html")
    grid = browser.find_element("css selector", "#kumar")
    everything = rows(browser, "kumar")
    assert everything.count("U-Net") == 2
    search = grid.find_element("css selector", "input[type=search]")
    search.send_keys("u-net 200 STEPS")
    assert rows(browser, "kumar") == ["U-Net", "U-Net"]
    assert grid.find_element("css selector", "[role=status]").text == f"2 of {len(everything)} rows"
    select = grid.find_element("css selector", "select")
    select.find_element("css selector", "option[value=strict]").click()
    assert rows(browser, "kumar") == ["U-Net"]
    again = browser.current_url
    assert "kumar.filter=" in again
    browser.get("about:blank")
    browser.get(again)
    assert rows(browser, "kumar") == ["U-Net"]
    assert browser.find_element("css selector", "#kumar select").get_attribute("value") == "strict"
    search = browser.find_element("css selector", "#kumar input[type=search]")
    search.clear()
    search.send_keys(" ")
    strict = rows(browser, "kumar")
    assert "Fiji" not in strict  # run under the other protocol alone, and nothing is published of it
    assert sorted(set(strict)) == sorted(strict)  # published figures stand once
    assert {"FCN8", "DIST"} <= set(strict)  # never run, and run under the other protocol
    browser.find_element("css selector", "#kumar input[type=checkbox]").click()
    assert rows(browser, "kumar") == ["U-Net"]


def test_the_slider_moves_between_image_annotation_and_prediction(visit: Callable[..., Browser]) -> None:
    browser = visit(f"evaluations/{slug('hovernet/consep.train/paper-s0-cccccccc/consep.test/hovernet')}.html")
    viewer = browser.find_element("css selector", ".viewer.on")

    def shares() -> list[float]:
        """How much of annotation and prediction can be seen, from the left."""
        found: list[float] = browser.execute_script(
            "return [...arguments[0].querySelectorAll('.layer')].slice(1)"
            ".map((layer) => 100 - parseFloat(layer.style.clipPath.split(' ')[1]))", viewer,
        )  # fmt: skip
        return found

    slide = viewer.find_element("css selector", "input[type=range]")
    assert shares() == [100, 50]
    assert slide.get_attribute("aria-valuetext") == "Prediction left, Annotation right"
    image, annotation, prediction = viewer.find_elements("css selector", ".jump button")
    for button, expected in ((image, [0, 0]), (annotation, [100, 0]), (prediction, [100, 100])):
        button.click()
        assert shares() == expected
        assert button.get_attribute("aria-pressed") == "true"
    slide.send_keys("\ue012" * 10)  # left, ten times
    assert shares() == [100, 90]
    stage = viewer.find_element("css selector", ".stage")
    actions = pytest.importorskip("selenium.webdriver").ActionChains(browser)
    width = stage.size["width"]
    actions.move_to_element_with_offset(stage, -width // 4, 0).click_and_hold().move_by_offset(width // 2, 0).release()
    actions.perform()
    assert shares()[1] == pytest.approx(75, abs=2)
    loaded = browser.execute_script(
        "return [...arguments[0].querySelectorAll('img')].map((i) => i.complete && i.naturalWidth)", viewer
    )
    assert loaded == [96] * 5
    places = browser.execute_script(
        "return [...arguments[0].querySelectorAll('img')].map((i) => JSON.stringify(i.getBoundingClientRect()))", viewer
    )
    assert len(set(places)) == 1, "outlines lie where the nuclei are"


def test_hostile_names_are_text(visit: Callable[..., Browser], hostile: dict[str, str], report: Any) -> None:
    folder = report.index.parent
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.html")]
    chosen = [name for name in names if "dist--" in name] + ["index.html", "tables/segmentation.html"]
    assert len(chosen) == 6
    for name in chosen:
        browser = visit(name)
        assert "hacked" not in browser.title.replace(hostile["title"], "")
        assert browser.execute_script("return document.getElementById('injected')") is None
        assert not browser.execute_script("return [...document.images].some((image) => image.onerror)")
        assert browser.execute_script("return document.scripts.length") == 1
    browser = visit("tables/segmentation.html")
    assert hostile["title"] in browser.find_element("css selector", "#kumar").text
    browser.find_element("css selector", "#kumar input[type=search]").send_keys("<img src=x onerror")
    assert rows(browser, "kumar") == [hostile["title"]]
    note = visit(f"runs/{slug('dist/kumar.train/paper-s0-bbbbbbbb')}.html").find_element("css selector", ".note")
    assert note.text == hostile["note"]


def test_nothing_is_asked_of_the_network(visit: Callable[..., Browser], report: Any) -> None:
    import json

    browser = visit("index.html")
    browser.get_log("performance")
    for name in ("index.html", "plots.html", f"overlays/{slug('consep.test')}.html", "tables/ki67.html"):
        browser = visit(name)
    asked = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.endswith("plots.html") for url in asked)
    root = report.index.parent.as_uri()
    assert [url for url in asked if not url.startswith((root, "data:", "about:"))] == []


def test_no_page_scrolls_sideways_on_a_phone(visit: Callable[..., Browser], browser: Browser, report: Any) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    folder = report.index.parent
    for path in sorted(folder.rglob("*.html")):
        visit(path.relative_to(folder).as_posix())
        width, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert (width, inner) == (360, 360), path
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map((b) => [b.scrollWidth, b.clientWidth])"
    )
    assert boxes


def test_pages_can_be_read_without_scripts(visit: Callable[..., Browser], browser: Browser, report: Any) -> None:
    page = f"evaluations/{slug('hovernet/consep.train/paper-s0-cccccccc/consep.test/hovernet')}.html"
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    visit(page)
    assert browser.find_elements("css selector", "input, select, button") == []
    pictures = browser.find_elements("css selector", ".viewer")[0].find_elements("css selector", ".layer")
    names = [picture.text.splitlines()[0] for picture in pictures]
    assert names == ["Image", "Annotation", "Prediction"]
    places = [picture.rect for picture in pictures]
    assert len({place["y"] for place in places}) == 1  # beside each other
    assert places[0]["x"] + places[0]["width"] <= places[1]["x"]
    visit("tables/segmentation.html")
    table = browser.find_element("css selector", "table[data-grid=kumar]")
    assert "U-Net" in table.text
    assert "0.556" in table.text
    visible = [row for row in table.find_elements("css selector", "tr[data-only]") if row.is_displayed()]
    assert visible == []


def test_dark_follows_the_system(visit: Callable[..., Browser], browser: Browser) -> None:
    def background(scheme: str) -> str:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        visit("index.html")
        found: str = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return found

    assert background("light") == "rgb(247, 248, 249)"
    assert background("dark") == "rgb(16, 19, 22)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_print_shows_whole_tables(visit: Callable[..., Browser], browser: Browser) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    visit("tables/segmentation.html")
    assert browser.execute_script("return getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"
    assert not browser.find_element("css selector", "header").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_link_to_a_place_still_goes_there(visit: Callable[..., Browser]) -> None:
    browser = visit("index.html", "#runs")
    top = browser.execute_script("return document.getElementById('runs').getBoundingClientRect().top")
    assert 0 <= top < browser.execute_script("return innerHeight")
    assert browser.current_url.endswith("#runs")
    assert Path(browser.current_url.removeprefix("file://").partition("#")[0]).is_file()
