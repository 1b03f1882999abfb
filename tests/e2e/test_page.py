"""The page in a real Chromium, at the width of a desktop, a tablet and a telephone."""

import shutil

import pytest

from interpret.render.text import PANEL_NAMES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=[1440, 1024, 390], ids=["desktop", "tablet", "telephone"])
def page(browser, server, request):
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page = context.new_page()
    page.asked = []
    page.on("request", lambda r: page.asked.append(r.url))
    page.goto(server)
    page.wait_for_selector("#image")
    yield page
    context.close()


def upload(page, path) -> None:
    page.locator("#image input[type=file]").first.set_input_files(str(path))


def open_panel(page, key: str) -> None:
    """Open a panel by its card's button, once the card is filled, and wait until the panel is there."""
    page.wait_for_selector(f"#card-{key} button[aria-expanded=false]", timeout=60_000)
    page.locator(f"#card-{key} button").click()
    page.wait_for_selector(f"#place-{key}", timeout=30_000)
    page.wait_for_selector(f"#card-{key} button[aria-expanded=true]", timeout=30_000)


def complete(page) -> None:
    """Wait until all cards are filled."""
    page.wait_for_selector("#progress >> text=Complete: ", timeout=90_000)


def test_an_upload_gives_cards_that_open(page, picture):
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=60_000)
    complete(page)
    for key, chart in {"physical": "#descriptors", "concepts": "#concepts", "orthogonal": "#units", "residual": "#residual"}.items():
        open_panel(page, key)
        page.wait_for_selector(f"{chart} .js-plotly-plot .main-svg", timeout=30_000)
    bars = page.locator("#concepts .bars .point path").evaluate_all("paths => paths.map(p => p.getBBox().width)")
    assert len(bars) == 12 and max(bars) > 20
    assert page.locator("#descriptors .scatterlayer .point").count() == 30  # fifteen medians and fifteen dots
    page.locator("#place-physical .numbers button").first.click()
    page.wait_for_selector("#place-physical .table >> text=laplacian variance", timeout=30_000)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0


def test_a_bad_file_says_so_and_leaves_nothing_of_the_last_image(page, picture, tmp_path):
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=60_000)
    page.locator("#image button[aria-label*='emove' i], #image button[aria-label*='lear' i]").first.click()
    page.wait_for_selector("#verdict >> text=Drop an image", timeout=30_000)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(open(picture, "rb").read()[:3000])
    upload(page, broken)
    page.wait_for_selector("#verdict .card.bad", timeout=30_000)
    assert not page.locator("#card-physical").is_visible()
    assert "Traceback" not in page.inner_text("body")


def test_nothing_is_asked_of_other_hosts(page, server):
    page.wait_for_timeout(500)
    outside = [url for url in page.asked if not url.startswith((server, "data:", "blob:"))]
    assert outside == []


def test_an_example_can_be_chosen(page):
    page.locator("#examples").get_by_text("Photograph: a flower").click()
    page.wait_for_selector("#verdict .card .big", timeout=60_000)


def test_a_concept_of_one_s_own_and_parts_switched_off(page, picture):
    upload(page, picture)
    complete(page)
    page.get_by_role("button", name="Expert").click()
    open_panel(page, "probe")
    page.locator("#phrase textarea, #phrase input").first.fill("soft evening light")
    page.locator("#opposite textarea, #opposite input").first.fill("<b>harsh</b> midday *sun*")
    page.locator("#measure").click()
    page.wait_for_selector("#probe-reading >> text=This image lies nearer to", timeout=30_000)
    page.wait_for_selector("#cosines .js-plotly-plot .main-svg", timeout=30_000)
    assert page.locator("#probe-reading b, #probe-reading em").count() == 0  # a visitor's words are shown as they are
    page.locator("#phrase textarea, #phrase input").first.fill("")
    page.locator("#measure").click()
    page.wait_for_selector("#probe-reading >> text=Type a phrase of at least one word", timeout=30_000)
    page.locator("#units-off input[type=checkbox]").first.check()
    page.wait_for_selector("#switch-reading >> text=orthogonal: logit", timeout=30_000)
    page.locator("#concepts-off input").first.click()
    page.get_by_role("option").first.click()
    page.wait_for_selector("#switch-reading >> text=concepts: logit", timeout=30_000)
    assert "The verdict" in page.inner_text("#switch-reading")
    page.locator("#compare").click()
    page.wait_for_selector("#drop-auroc .js-plotly-plot .main-svg", timeout=60_000)
    assert "strongest directions" in page.inner_text("#drop-reading")


def test_a_hub_out_of_reach_is_said_in_one_sentence_and_the_page_stays(page, picture, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    page.get_by_text("Model", exact=True).first.click()
    page.locator("#backbone input").click()
    page.get_by_role("option").nth(1).click()
    page.locator("#use-model").click()
    page.wait_for_selector("#model-status >> text=Still in use: embedded", timeout=60_000)
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=60_000)
    assert "Traceback" not in page.inner_text("body")


def test_stability_is_tried_unasked_and_forgotten_with_the_image(page, suite, picture, tmp_path):
    upload(page, picture)
    complete(page)
    page.wait_for_selector("#saved-again >> text=copies", timeout=120_000)
    page.wait_for_selector("#card-stability svg", timeout=30_000)
    open_panel(page, "stability")
    page.wait_for_selector("#stability .js-plotly-plot .main-svg", timeout=60_000)
    page.wait_for_selector("#stability-reading >> text=The verdict", timeout=30_000)
    assert page.locator("#stability .scatterlayer .trace").count() == len(suite.heads) + 1  # the methods and the verdict
    page.locator("#place-stability .numbers button").first.click()
    page.wait_for_selector("#stability-table >> text=JPEG 70", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    other = tmp_path / "other.jpg"
    other.write_bytes(open(picture, "rb").read()[:3000])
    page.locator("#image button[aria-label*='emove' i], #image button[aria-label*='lear' i]").first.click()
    page.wait_for_selector("#verdict >> text=Drop an image", timeout=30_000)
    upload(page, other)
    page.wait_for_selector("#verdict .card.bad", timeout=60_000)
    assert page.locator("#saved-again li, #trust li, #reasons li, #map-over img").count() == 0
    assert not page.locator("#card-stability").is_visible() and not page.locator("#place-stability").is_visible()


ORDER = """() => { window.filled = [];
  const note = (name, node) => node && node.offsetParent !== null && !window.filled.includes(name) && window.filled.push(name);
  new MutationObserver(() => {
    note("verdict", document.querySelector("#verdict .big"));
    for (const name of ["concepts", "orthogonal", "residual", "physical"]) note(name, document.querySelector(`#card-${name} svg`));
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def test_the_verdict_comes_first_and_the_costly_card_last(page, picture):
    page.evaluate(ORDER)
    upload(page, picture)
    complete(page)
    page.wait_for_timeout(300)
    assert page.evaluate("window.filled") == ["verdict", "concepts", "orthogonal", "residual", "physical"]
    for key, title in PANEL_NAMES.items():
        if page.locator(f"#card-{key}").count():
            assert page.get_by_role("heading", name=title, exact=True).is_visible(), title
    assert page.locator("#story [id^=card-]").count() == 9


HEIGHTS = {1440: 2400, 1024: 3400, 390: 5000}  # pixels of the whole page before a panel is opened


def test_the_page_is_short_until_a_panel_is_opened(page, picture):
    upload(page, picture)
    complete(page)
    assert page.locator("#story .opened").count() == 0 and page.locator(".js-plotly-plot").count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") <= HEIGHTS[page.viewport_size["width"]]
    open_panel(page, "residual")
    page.wait_for_selector("#residual .js-plotly-plot .main-svg", timeout=30_000)
    page.locator("#card-residual button").click()
    page.wait_for_selector("#place-residual", state="detached", timeout=30_000)
    assert page.locator("#card-residual button[aria-expanded=false] >> text=Open").count() == 1


def test_stopping_leaves_what_is_there_and_the_page_usable(page, picture, monkeypatch):
    import time

    from interpret.panels import story

    page.locator("#cancel").click()  # nothing runs: nothing happens
    slow = story.report.concept_reading
    monkeypatch.setattr(story.report, "concept_reading", lambda record: time.sleep(1) or slow(record))
    upload(page, picture)
    page.wait_for_selector("#progress >> text=next: Photographic concepts", timeout=60_000)
    page.locator("#cancel").click()
    page.wait_for_selector("#progress >> text=Stopped", timeout=10_000)
    page.wait_for_timeout(2500)
    assert page.locator("#verdict .big").is_visible() and not page.locator("#card-residual svg").is_visible()
    monkeypatch.undo()
    page.locator("#analyze").click()
    complete(page)


def test_stopping_before_the_verdict(page, picture, monkeypatch):
    import time

    from interpret.panels import service

    calm = service._analyze_file
    monkeypatch.setattr(service, "_analyze_file", lambda seen: time.sleep(2) or calm(seen))
    upload(page, picture)
    page.wait_for_selector("#verdict >> text=Analysing", timeout=20_000)
    page.wait_for_timeout(500)
    page.locator("#cancel").click()
    page.wait_for_selector("#verdict >> text=Stopped", timeout=10_000)
    page.wait_for_timeout(3000)
    assert not page.locator("#verdict .big").is_visible() and not page.locator("#report").is_visible()
    monkeypatch.undo()
    page.locator("#analyze").click()
    page.wait_for_selector("#verdict .card .big", timeout=60_000)


def test_a_panel_that_fails_takes_no_other_with_it(page, picture, monkeypatch):
    from interpret.panels import charts

    monkeypatch.setattr(charts.report, "unit_reading", lambda record: 1 / 0)
    upload(page, picture)
    complete(page)
    open_panel(page, "residual")
    page.wait_for_selector("#residual .js-plotly-plot .main-svg", timeout=30_000)
    assert "Orthogonal units could not be shown." in page.inner_text("#card-orthogonal")
    assert page.locator("#card-orthogonal button").count() == 0 and "Traceback" not in page.inner_text("body")


def test_the_report_and_the_record_are_downloaded(page, picture, tmp_path):
    assert not page.locator("#report").is_visible()
    upload(page, picture)
    complete(page)
    for button, name in (("#report", "cuescope-temple.html"), ("#json-record", "cuescope-temple.json")):
        with page.expect_download(timeout=30_000) as download:
            page.locator(button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    asked = []
    report = page.context.new_page()
    report.on("request", lambda r: asked.append(r.url))
    report.goto((tmp_path / "cuescope-temple.html").as_uri())
    assert report.get_by_role("heading", name="Orthogonal units").is_visible()
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert report.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_keyboard_goes_down_the_page_in_reading_order(page, picture):
    upload(page, picture)
    complete(page)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('[id]')?.id"))
    order = [name for name in ("analyze", "cancel", "report", "json-record") if name in reached]
    assert order == ["analyze", "cancel", "report", "json-record"]
    assert [reached.index(name) for name in order] == sorted(reached.index(name) for name in order)
    assert page.locator("#progress [role=status]").count() == 1


def test_heatmaps_come_after_the_panels_and_follow_layer_and_opacity(page, picture):
    upload(page, picture)
    complete(page)
    open_panel(page, "sdd")
    page.locator("#heatmap-picture").scroll_into_view_if_needed()
    page.wait_for_selector("#heatmap-picture img", timeout=120_000)
    page.get_by_role("button", name="Expert").click()
    assert "overlapping windows of 144 × 144 pixels" in page.inner_text("#heatmap-reading")
    assert "map" in page.inner_text("#heatmap-trust") and page.inner_text("#heatmap-reading")
    page.locator("#heatmap .numbers button").first.click()
    page.wait_for_selector("#heatmap .table >> text=bottom right", timeout=30_000)
    first = page.locator("#heatmap-picture img").get_attribute("src")
    page.locator("#heatmap-layer input").click()
    page.get_by_role("option", name="Enhancer, stage 3").click()
    page.wait_for_function("before => document.querySelector('#heatmap-picture img').src !== before", arg=first, timeout=30_000)
    page.wait_for_function("document.querySelector('#heatmap-picture img').naturalWidth > 0", timeout=30_000)
    page.locator("#heatmap-picture img").click()
    page.wait_for_selector("#heatmap-point >> text=logits per window", timeout=30_000)
    page.locator("#heatmap-check").click()
    for chart in ("#deletion", "#insertion"):
        page.locator(chart).scroll_into_view_if_needed()
        page.wait_for_selector(f"{chart} .js-plotly-plot .main-svg", timeout=120_000)
    assert "Enhancer, stage 3" in page.inner_text("#check-reading")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_list_of_detectors_fits_the_page(page):
    page.get_by_text("Model", exact=True).first.click()
    page.get_by_text("All detectors known here").click()
    page.wait_for_function("document.querySelectorAll('#detectors li').length > 10", timeout=60_000)
    assert "embedded/sdd" in page.locator("#detectors").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_another_leader_speaks_of_the_open_picture_by_itself(page, picture):
    upload(page, picture)
    complete(page)  # panels that fill in above it would move the list of detectors while it is open
    assert "embedded/residual" not in page.inner_text("#verdict") and "pixels/residual" not in page.inner_text("#verdict")
    page.get_by_text("Model", exact=True).first.click()
    page.locator("#leader input").click()
    page.get_by_role("option", name="pixels/residual").click()
    page.wait_for_function("document.querySelector('#verdict').innerText.includes('pixels/residual')", timeout=300_000)


def test_no_error_in_the_console_at_any_width(page, picture):
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    upload(page, picture)
    complete(page)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0 and errors == []
