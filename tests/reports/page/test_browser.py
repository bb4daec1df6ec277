"""The report in a browser: hovered, clicked, tabbed through, in the dark theme, printed."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lymphoml.reports.page import page as module
from lymphoml.reports.page.page import write_report
from tests.reports.fabricate import make_run_of

CHROMIUM = Path("/usr/bin/chromium")
needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt install chromium"
)


@pytest.fixture(scope="module")
def page_file(cohort, tmp_path_factory):
    run = make_run_of(cohort, tmp_path_factory.mktemp("browser") / "run")
    return write_report(run, run / "report.html")


@pytest.fixture
def open_page(page_file):
    """Opens the page with given settings; afterwards nothing was requested and nothing failed."""
    playwright = pytest.importorskip("playwright.sync_api")
    requests, complaints = [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )

        def opened(width=1280, script=True, **settings):
            size = {"width": width, "height": 844}
            page = browser.new_page(viewport=size, java_script_enabled=script, **settings)
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(page_file.as_uri())
            return page

        yield opened
        browser.close()
    assert complaints == []
    requested = {url for url in requests if not url.startswith("data:image/webp")}
    assert requested == {page_file.as_uri()}


@needs_browser
def test_charts_have_tooltips_and_tables_sort_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    point = page.locator("#discrimination svg.chart").first.locator("circle.hit").last
    point.hover()
    assert "sensitivity" in point.locator("title").text_content()
    table = page.locator("#folds table").first
    values = lambda: table.locator("tbody tr td:nth-child(4)").all_text_contents()  # noqa: E731
    before = values()
    table.get_by_role("button", name="Balanced accuracy, last epoch").focus()
    heading = table.locator("thead th").nth(3)
    for order, expected in (
        ("descending", sorted(before, reverse=True)), ("ascending", sorted(before)), (None, before),
    ):  # fmt: skip
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == order
        assert values() == expected


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False])
def test_patients_are_filtered_and_a_phone_scrolls_one_way_only(open_page, script):
    page = open_page(width=390, script=script, has_touch=True)
    assert page.locator("svg.chart").first.is_visible()
    assert page.locator("main").bounding_box()["width"] == 390
    rows = page.locator(".patients li")
    visible = lambda: sum(row.is_visible() for row in rows.all())  # noqa: E731
    assert visible() == rows.count() == 16
    for name, kind in (("hard stratum", "hard"), ("called wrongly", "wrong")):
        page.get_by_role("radio", name=name).check()
        assert 0 < visible() == page.locator(f".patients li.{kind}").count() < 16
    assert re.fullmatch(
        r"cell, effect [+−]\d\.\d{3}", page.locator(".cells img").first.get_attribute("alt")
    )
    if script:
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@needs_browser
@pytest.mark.slow
def test_paper_gets_light_charts_and_all_that_was_folded_away(open_page):
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(22, 20, 26)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.locator("#discrimination svg.chart").first.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.get_by_role("row").filter(has_text="Ethical approval").is_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[role=img],[role=region],nav,section[id],img')].filter("
        "(e) => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.alt)"
        ").length"
    )
    assert unnamed == 0


def luminance(colour):
    shares = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot((0.2126, 0.7152, 0.0722), shares)


def test_both_themes_have_enough_contrast():
    css = (module.HERE / "page.css").read_text()
    for theme in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        light = {name: luminance(hex) for name, hex in re.findall(r"--(\w+): (#\w+);", theme)}
        for background, names, least in (  # WCAG 2.2, 1.4.3 at level AA and 1.4.11
            ("paper", ("ink", "muted", "tumoral", "reactive", "accent", "warn"), 4.5),
            ("panel", ("ink", "muted", "tumoral", "reactive", "accent", "warn"), 4.5),
            ("paper", ("orange", "blue", "sky", "vermilion", "green", "pink", "grey"), 3),
        ):
            for name in names:
                dim, bright = sorted((light[name], light[background]))
                assert (bright + 0.05) / (dim + 0.05) >= least, (background, name)
