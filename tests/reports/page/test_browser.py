"""The page in a browser: clicked, tabbed through, in the dark theme, printed."""

import re
from pathlib import Path

import pytest

from lymphoml.reports.page.page import write_report
from tests.reports.fabricate import make_run_of

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt install chromium"
)
playwright = pytest.importorskip("playwright.sync_api")

CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim().replace("#", "");
    const full = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
    const [r, g, b] = [0, 2, 4].map((at) => {
      const c = parseInt(full.slice(at, at + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [dim, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dim + 0.05);
  };
  const text = ["--ink", "--muted", "--tumoral", "--reactive", "--accent", "--warn"];
  const lines = ["--orange", "--blue", "--sky", "--vermilion", "--green", "--pink", "--grey"];
  return {
    text: Math.min(...text.flatMap((name) => [ratio(name, "--paper"), ratio(name, "--panel")])),
    lines: Math.min(...lines.map((name) => ratio(name, "--paper"))),
  };
}"""


@pytest.fixture(scope="module")
def page_file(cohort, tmp_path_factory):
    run = make_run_of(cohort, tmp_path_factory.mktemp("browser") / "run")
    return write_report(run, run / "report.html")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page with given settings; afterwards nothing was requested and nothing failed."""
    contexts, requests, complaints = [], [], []

    def opened(width=1280, script=True, **settings):
        context = browser.new_context(
            viewport={"width": width, "height": 844}, java_script_enabled=script, **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    requested = {url for url in requests if not url.startswith("data:image/webp")}
    assert requested == {page_file.as_uri()}


def until(page, condition, *arguments):
    """Playwright's own waiting hands the page a string to run, which the page's policy refuses."""
    for _ in range(400):
        if page.evaluate(condition, *arguments):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def test_charts_have_tooltips_and_nothing_is_requested(open_page):
    page = open_page()
    roc = page.locator("#discrimination svg.chart").first
    assert roc.get_attribute("aria-label").startswith("ROC curve")
    point = roc.locator("circle.hit").last
    point.hover()
    assert "sensitivity" in point.locator("title").text_content()
    assert page.locator("svg.chart").count() > 10


@pytest.mark.slow
def test_tables_sort_by_keyboard_and_say_so(open_page):
    page = open_page()
    table = page.locator("#folds table")
    values = lambda: table.locator("tbody tr td:nth-child(4)").all_text_contents()  # noqa: E731
    before = values()
    table.get_by_role("button", name="Balanced accuracy, last epoch").focus()
    page.keyboard.press("Enter")
    heading = table.locator("thead th").nth(3)
    assert heading.get_attribute("aria-sort") == "descending"
    assert values() == sorted(before, reverse=True)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(before)
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") is None
    assert values() == before
    models = page.locator("#comparison table").first
    models.get_by_role("button", name="AUROC").press("Enter")
    shown = [
        float(text.split()[0])
        for text in models.locator("tbody td:nth-child(3)").all_text_contents()
    ]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.slow
def test_the_list_of_sections_leads_to_each_and_the_first_tab_skips_it(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    link = page.get_by_role("link", name="TRIPOD+AI")
    link.press("Enter")
    until(page, "() => document.querySelector('nav a[aria-current]')?.hash === '#tripod'")
    page.get_by_text("All 52 items").press("Enter")
    assert page.get_by_role("row").filter(has_text="Ethical approval").is_visible()


@pytest.mark.slow
def test_patients_can_be_narrowed_down_also_without_a_script(open_page):
    for script in (True, False):
        page = open_page(script=script)
        rows = page.locator(".patients li")
        visible = lambda: sum(row.is_visible() for row in rows.all())  # noqa: B023, E731
        assert visible() == rows.count() == 15
        page.get_by_role("radio", name="hard stratum").check()
        assert visible() == page.locator(".patients li.hard").count()
        page.get_by_role("radio", name="called wrongly").check()
        assert visible() == page.locator(".patients li.wrong").count()
        pictures = page.locator(".cells img")
        assert pictures.count() > 40
        assert re.fullmatch(r"cell, 0\.\d\d", pictures.first.get_attribute("alt"))


@pytest.mark.slow
def test_both_themes_have_enough_contrast_and_charts_follow(open_page):
    page = open_page(color_scheme="light")
    text = page.locator("header svg.chart .title").first
    light = text.evaluate("node => getComputedStyle(node).fill")
    assert_contrast(page, "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    assert_contrast(page, "rgb(22, 20, 26)")
    assert text.evaluate("node => getComputedStyle(node).fill") != light


def assert_contrast(page, paper):
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == paper
    contrast = page.evaluate(CONTRAST)
    assert contrast["text"] >= 4.5  # WCAG 2.2, 1.4.3 at level AA
    assert contrast["lines"] >= 3  # 1.4.11


@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False])
def test_a_phone_scrolls_one_way_only(open_page, script):
    page = open_page(width=390, script=script, has_touch=True)
    assert page.locator("svg.chart").first.is_visible()
    assert page.locator("main").bounding_box()["width"] == 390
    if script:
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_paper_gets_the_charts_and_all_that_was_folded_away(open_page):
    page = open_page()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("#discrimination svg.chart").first.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.get_by_role("row").filter(has_text="Ethical approval").is_visible()
    assert len(page.pdf()) > 10_000


@pytest.mark.slow
def test_everything_has_a_name_and_motion_can_be_reduced(open_page):
    page = open_page(reduced_motion="reduce")
    for role in ("link", "button", "region", "img", "radio", "navigation"):
        assert page.get_by_role(role).count() > 0
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[role=img],[role=region],nav,section[id],img,summary')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || "
        "e.alt || (e.matches('summary') && e.textContent.trim()))).length"
    )
    assert unnamed == 0
    scrolling = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(scrolling) == "auto"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(scrolling) == "smooth"
