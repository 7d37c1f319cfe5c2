"""The page in a real browser: it draws, plays, fits a phone, and asks for nothing."""

import shutil
import time

import pytest

from cgloop.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def wait_for(page, expression: str, seconds: float = 20.0) -> None:
    """Until an expression is true; Playwright's own way needs `eval`, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not true: {expression}"
        page.wait_for_timeout(50)


@pytest.fixture
def open_page(browser):
    """Open a run's page at a width; what the browser complains about or asks for is collected in `page.noted`."""
    contexts = []

    def opened(run, width: int, touch: bool = False):
        context = browser.new_context(viewport={"width": width, "height": 800}, has_touch=touch)
        contexts.append(context)
        page = context.new_page()
        page.noted = []
        page.on("console", lambda message: page.noted.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.noted.append(f"error: {error}"))
        page.on("request", lambda request: page.noted.append(f"request: {request.url[:80]}"))
        page.goto(write_report(run).resolve().as_uri())
        wait_for(page, "document.querySelectorAll('.plot .main-svg').length >= 20")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("run", ["passing_run", "crashed_run"])
def test_quiet_offline_and_as_wide_as_the_window(run, width, open_page, request):
    page = open_page(request.getfixturevalue(run), width, touch=width == 400)
    outside = [
        note for note in page.noted if not note.startswith(("request: file:", "request: data:", "request: blob:"))
    ]
    assert outside == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for details in page.query_selector_all("details:not([open]) > summary"):
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_section_is_empty(crashed_run, open_page):
    page = open_page(crashed_run, 1280)
    sections = page.query_selector_all("main > section")
    assert len(sections) >= 14
    for section in sections:
        assert len(section.inner_text().strip()) > 20, section.get_attribute("id")
        assert section.bounding_box()["height"] > 40
    for plot in page.query_selector_all(".plot"):
        marks = plot.query_selector_all(".scatterlayer path, .barlayer path, .heatmaplayer image")
        assert marks, plot.get_attribute("data-figure")


def picture(page) -> str:
    return page.evaluate("document.querySelector('.viewer canvas').toDataURL()")


def test_slider_and_button_move_the_frame(crashed_run, open_page):
    page = open_page(crashed_run, 1280)
    viewer = page.query_selector(".viewer")
    clock, slider = viewer.query_selector(".clock"), viewer.query_selector("input")
    assert clock.inner_text() == "0 fs, step 5,039"
    assert "1.90 Å" in viewer.query_selector(".readouts").inner_text()
    at_the_end = picture(page)
    slider.fill("0")
    assert clock.inner_text() == "−78 fs, step 5,000"
    assert "5.20 Å" in viewer.query_selector(".readouts").inner_text()
    assert picture(page) != at_the_end
    viewer.query_selector("button").click()
    wait_for(page, "Number(document.querySelector('.viewer input').value) > 2")
    viewer.query_selector("button").click()
    stopped = slider.input_value()
    page.wait_for_timeout(250)
    assert slider.input_value() == stopped


def test_dragging_and_arrow_keys_turn_the_chain(crashed_run, open_page):
    page = open_page(crashed_run, 1280)
    canvas = page.query_selector(".viewer canvas")
    canvas.scroll_into_view_if_needed()
    before, box = picture(page), canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 130)
    page.mouse.up()
    dragged = picture(page)
    assert dragged != before
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    assert picture(page) != dragged


def test_offending_beads_are_marked(crashed_run, open_page):
    """Vermillion is drawn on the canvas: two beads and the dashed line between them."""
    marked = open_page(crashed_run, 1280).evaluate(
        """() => {
            const c = document.querySelector('.viewer canvas');
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            let n = 0;
            for (let i = 0; i < d.length; i += 4) n += d[i] === 0xD5 && d[i + 1] === 0x5E && d[i + 2] === 0;
            return n;
        }"""
    )
    assert marked > 200


def test_words_and_numbers_are_there_without_scripts(browser, crashed_run):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_report(crashed_run).resolve().as_uri())
    text = " ".join(page.inner_text("body").split())
    context.close()
    assert "came within 1.90 Å of each other" in text
    assert "Plots and the crash viewer need JavaScript" in text


def test_prints_on_paper(crashed_run, open_page):
    page = open_page(crashed_run, 1280)
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(paper) > 50_000
