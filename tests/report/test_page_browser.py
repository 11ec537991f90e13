"""The page in a real browser, opened from disk: nothing loaded or logged, usable by keyboard, no sideways scroll."""

import itertools

import pytest

from bestfor.report import write_html

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def address(make, texts_of, tmp_path):
    path = tmp_path / "report.html"
    models = ("hierarchical", "pooled", "a-very-long-name/" * 6, "point", "gaussian", "crowd", "lora", "length")
    diagnosis = make(models, folds=3)
    texts, inputs = texts_of(diagnosis)
    write_html(path, diagnosis, texts=texts, inputs=inputs)
    return path.as_uri()


def visible_models(page) -> set[str]:
    shown = page.locator("main .panel:visible .of bdi").all_inner_texts()
    return set(shown)


def test_page_from_disk(browser, address):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert visible_models(page) == {"hierarchical"}

    page.locator("label.chip", has_text="pooled").click()
    assert visible_models(page) == {"pooled"}
    widths = page.eval_on_selector_all(".chart.wide .line", "all => all.map(e => getComputedStyle(e).strokeWidth)")
    assert "3px" in widths

    page.keyboard.press("ArrowLeft")
    assert visible_models(page) == {"hierarchical"}
    focus = page.evaluate("getComputedStyle(document.activeElement.closest('label')).outlineStyle")
    assert focus == "solid"

    folded = page.locator("details.text:visible").first
    assert folded.locator("div.body").is_hidden()
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.locator("div.body").is_visible()
    assert folded.locator(".preview").is_hidden()

    for link in page.locator("nav.contents a").all():
        link.focus()
        page.keyboard.press("Enter")
        target = page.locator(link.get_attribute("href"))
        bar, heading = page.locator(".guide").bounding_box(), target.bounding_box()
        assert bar["y"] + bar["height"] <= heading["y"] <= 900
    assert not page.locator("#researchers section").first.is_visible()
    page.locator("#researchers > summary").click()
    page.locator("label.chip", has_text="gaussian").click()
    section = page.locator("section:has(> #calibration)")
    assert "Can its uncertainty be believed?" in section.locator("h2").inner_text()
    assert section.locator(".chart.wide:visible").count() == 2
    unfold = section.locator("details:visible summary").first
    unfold.focus()
    page.keyboard.press("Enter")
    assert section.locator("details:visible table").first.is_visible()
    page.locator("label.chip", has_text="pooled").click()
    assert "predicts no standard deviation" in section.inner_text()

    section = page.locator("section:has(> #beyond)")
    assert section.locator(".chart.wide:visible").count() == 1
    assert "Beyond the pool" in section.locator("h2").inner_text()
    assert section.locator("table:visible").count() >= 3

    assert page.evaluate("document.querySelectorAll('main b, main img').length") == 0
    assert said == []
    assert {url.partition("#")[0] for url in asked} == {address}


def test_everything_that_can_be_reached_has_a_name_and_scrolls_in_its_box(browser, address):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 900, "four screens before anything is unfolded"
    page.locator("#researchers > summary").click()
    assert page.evaluate(UNNAMED) == []
    for part in ("#beyond", "#quantities", "#curves"):
        spills = f"section:has(> {part}) table"
        for wide in page.locator(f"{spills}:visible").all():
            box, room = wide.evaluate("e => [e.offsetWidth, e.closest('.scroll, details, section').clientWidth]")
            assert box <= room or wide.evaluate("e => getComputedStyle(e.closest('.scroll')).overflowX") == "auto"
    table = page.locator("section:has(> #beyond) .scroll:visible").first
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), "the predictions fit their column at this width"


def test_first_tab_skips_to_the_content(browser, address):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "m0"


def test_no_sideways_scroll_and_readable_colours(browser, address):
    for width, scheme in itertools.product((390, 768, 1400), ("light", "dark")):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown, hidden = ("narrow", "wide") if width <= 560 else ("wide", "narrow")
        assert page.locator(f".chart.{shown}:visible").count() > 0
        assert page.locator(f".chart.{hidden}:visible").count() == 0
        assert page.evaluate(CONTRAST) >= 4.5, (width, scheme)
        page.close()


@pytest.mark.slow
def test_the_chosen_pill_is_in_view_on_a_phone(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(address)
    for name in ("hierarchical", "lora", "crowd"):
        page.locator("label.chip", has_text=name).click()
        page.evaluate("document.querySelector('.chips').scrollLeft = 0")
        box = page.locator("label.chip:has(:checked)").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


@pytest.mark.slow
def test_what_stands_open_is_four_screens(browser, make, tmp_path):
    path = tmp_path / "report.html"
    write_html(path, make(("hierarchical", "pooled", "point", "length")), data="votes of a town", date="1 May 2026")
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 800


UNNAMED = """() => {
  const named = e => (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent || '').trim() ||
    (e.getAttribute('aria-labelledby') || '').split(' ').some(id => document.getElementById(id));
  const reached = 'a[href], input, summary, [tabindex], [role=region], svg[role=img], nav, section';
  return [...document.querySelectorAll(reached)].filter(e => !named(e)).map(e => e.outerHTML.slice(0, 80));
}"""


CONTRAST = """() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const clear = colour => /, 0\\)$/.test(colour);
  const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return clear(colour) && element.parentElement ? ground(element.parentElement) : light(colour);
  };
  const texts = 'p, h1, h2, h3, a, label, summary, caption, figcaption, td, th, dt, dd, li, pre, span.interval,' +
    'span.meaning, span.why, svg.chart text';
  const ratios = [...document.querySelectorAll(texts)]
    .filter(e => e.checkVisibility() && e.textContent.trim())
    .map(e => [light(getComputedStyle(e)[e.namespaceURI.endsWith('svg') ? 'fill' : 'color']), ground(e)])
    .map(([ink, paper]) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
  return Math.min(...ratios);
}"""
