"""The page in a real browser: it draws, plays, fits a phone, and asks for nothing."""

import shutil
import time

import pytest

from cgloop.report.page import write_report
from cgloop.report.pdf import write_pdf

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip

WIDE = 1400

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


def open_page(browser, run, *, dark: bool = False):
    """A run's page, drawn; what the browser complains about or asks for is collected in `page.noted`."""
    context = browser.new_context(viewport={"width": WIDE, "height": 800}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.noted = []
    page.on("console", lambda message: page.noted.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: page.noted.append(f"error: {error}"))
    page.on("request", lambda request: page.noted.append(f"request: {request.url[:80]}"))
    page.goto(write_report(run).resolve().as_uri())
    wait_for(page, "document.querySelectorAll('.plot svg.figure').length >= 20")
    return page


@pytest.fixture(scope="module")
def passing(browser, passing_run):
    return open_page(browser, passing_run, dark=True)


@pytest.fixture(scope="module")
def opened(browser, crashed_run):
    return open_page(browser, crashed_run)


@pytest.fixture
def crashed(opened):
    """The page of two cycles, as it looks when it was just opened."""
    opened.set_viewport_size({"width": WIDE, "height": 800})
    opened.click("[role=tab][data-shows='1']")
    return opened


def complaints(page) -> list[str]:
    quiet = ("request: file:", "request: data:", "request: blob:")
    return [note for note in page.noted if not note.startswith(quiet)]


@pytest.mark.parametrize("name", ["passing", "crashed"])
def test_quiet_offline_and_as_wide_as_the_window(name, request):
    page = request.getfixturevalue(name)
    folded = "for (const one of document.querySelectorAll('details:not([open])')) one.open = one.dataset.was = true"
    back = "for (const one of document.querySelectorAll('details[data-was]')) one.open = false"
    for width in (WIDE, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(folded)
        page.wait_for_timeout(50)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(back)
    page.set_viewport_size({"width": WIDE, "height": 800})
    assert complaints(page) == []


MARKS = "path.line, path.area, path.glyph, rect.bar, rect.box, image.picture"


@pytest.mark.parametrize("name", ["passing", "crashed"])
def test_no_section_is_empty_and_no_plot_without_marks(name, request):
    page = request.getfixturevalue(name)
    sections = page.evaluate(
        """[...document.querySelectorAll('main section')].filter((one) => one.offsetParent)
           .map((one) => [one.id, one.innerText.trim().length, one.getBoundingClientRect().height])"""
    )
    assert len(sections) >= 14
    assert [name for name, letters, height in sections if letters < 20 or height < 40] == []
    plots = page.evaluate(
        f"""[...document.querySelectorAll('.plot')].filter((one) => one.offsetParent)
            .map((one) => [one.dataset.figure, one.querySelectorAll("{MARKS}").length])"""
    )
    assert [name for name, marks in plots if not marks] == []
    assert page.evaluate("document.querySelectorAll('.plot path[d*=NaN], .plot [x=NaN], .plot [y=NaN]').length") == 0


def test_cycles_are_chosen_by_click_and_key_and_link(crashed):
    page = crashed

    def shown() -> list[str]:
        return page.evaluate(
            "[...document.querySelectorAll('[data-cycle]:not([hidden])')].map((one) => one.dataset.cycle)"
        )

    assert shown() == ["1", "1"]
    page.click("[role=tab][data-shows='0']")
    assert shown() == ["0", "0"]
    wait_for(page, "document.querySelectorAll('#c0-structure svg.figure').length >= 6")
    page.keyboard.press("ArrowRight")
    assert shown() == ["1", "1"]
    page.click("#cycles a[data-show='0']")
    assert shown() == ["0", "0"]
    assert complaints(page) == []


def test_pointing_at_a_plot_tells_its_numbers(passing):
    page = passing
    for figure, x, y, words in (
        ("c0-contacts-reference-cln025", 0.85, 0.25, "probability: "),
        ("c0-rmsd-cln025", 0.5, 0.5, " ps: "),
        ("c0-check-nvt-temperature-cln025", 0.5, 0.5, " K ± 0."),
    ):
        plot = page.query_selector(f"[data-figure='{figure}'] svg.figure")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        tip = page.query_selector(f"[data-figure='{figure}'] .tip")
        assert words in tip.inner_text()


def test_lines_are_where_their_numbers_are(passing):
    """The 12 ticks and 60 densities of a plot, read back from its pixels."""
    page = passing
    figure = "c0-check-structure-rg-cln025"
    data = page.evaluate(f"JSON.parse(document.getElementById('figures').textContent)['{figure}']")
    ticks, path = page.evaluate(
        f"""(() => {{
            const svg = document.querySelector("[data-figure='{figure}'] svg.figure");
            const texts = [...svg.querySelectorAll('.axes text[text-anchor=end]')];
            return [texts.map((one) => [Number(one.textContent.replace('−', '-')), one.y.baseVal[0].value - 4]),
                    svg.querySelector('path.line.c-model').getAttribute('d')];
        }})()"""
    )
    (v0, y0), (v1, y1) = ticks[0], ticks[-1]
    drawn = [float(point.split(",")[1]) for point in path.replace("M", "L").split("L")[1:]]
    values = [v0 + (v1 - v0) * (y - y0) / (y1 - y0) for y in drawn]
    model = next(mark for mark in data["marks"] if mark["role"] == "model")
    assert values == pytest.approx(model["y"], abs=0.02)


def picture(page) -> str:
    return page.evaluate("document.querySelector('.viewer canvas').toDataURL()")


def test_slider_and_button_move_the_frame(crashed):
    page = crashed
    viewer = page.query_selector(".viewer")
    clock, slider = viewer.query_selector(".clock"), viewer.query_selector("input")
    slider.fill("39")
    assert clock.inner_text() == "0 fs, step 5,039"
    assert "1.90 Å" in viewer.query_selector(".readouts").inner_text()
    at_the_end = picture(page)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert clock.inner_text() == "−2 fs, step 5,038"
    assert slider.get_attribute("aria-valuetext") == "−2 fs, step 5,038"
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


def test_dragging_and_arrow_keys_turn_the_chain(crashed):
    page = crashed
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


def test_offending_beads_are_marked(crashed):
    """Vermillion is drawn on the canvas: rings around two beads and the dashed line between them."""
    marked = crashed.evaluate(
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


def test_prints_on_paper_with_nothing_folded_and_plots_at_its_width(passing):
    page = passing
    page.evaluate(
        """addEventListener('beforeprint', () => { window.asked = {
            folded: [...document.querySelectorAll('details:not([open]):not(.long)')]
                .filter((one) => one.offsetParent).length,
            background: getComputedStyle(document.body).backgroundColor,
            empty: [...document.querySelectorAll('main section')].filter((one) => one.offsetParent
                && one.getBoundingClientRect().height < 40).length,
            widest: Math.max(...[...document.querySelectorAll('svg.figure')].map((one) => one.clientWidth)) }; })"""
    )
    paper = page.pdf(format="A4", print_background=True)
    assert paper.startswith(b"%PDF")
    assert 50_000 < len(paper) < 5_000_000
    asked = page.evaluate("window.asked")
    assert asked["folded"] == asked["empty"] == 0
    assert asked["background"] == "rgb(255, 255, 255)"
    assert asked["widest"] <= 680
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 0  # folded again


def test_report_is_printed_to_a_file_beside_the_page(passing_run):
    page = write_report(passing_run)
    paper = write_pdf(page)
    assert paper == page.with_name("report.pdf")
    text = paper.read_bytes()
    assert text.startswith(b"%PDF")
    assert 4 < text.count(b"/Type /Page\n") < 40
    assert [path.name for path in passing_run.glob(".report-pdf-*")] == []
