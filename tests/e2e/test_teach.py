"""Teach in a real Chromium and through its endpoints: a round, the tour with its keys, full screen, links, and the hand-out on paper."""

import re
from pathlib import Path

import httpx
import pytest
from artefacts import keep_screenshot
from gradio_client import Client, handle_file
from PIL import Image
from sets import archive, jpeg, pictures
from strangers import answer, through_queue
from test_page import browser, upload  # noqa: F401
from test_page import pytestmark as needs_chromium
from test_tabs import open_tab

from interpret.teach.tour import STEPS

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def own(tmp_path):
    """A zip archive of two real and two synthetic pictures."""
    files = {f"{name}/{name}-{i}.jpg": jpeg(p) for k, name in enumerate(("real", "synthetic")) for i, p in enumerate(pictures(2, k))}
    return str(archive(tmp_path / "set.zip", files))


# --- endpoints -----------------------------------------------------------------------------------------------------


def test_every_action_has_a_named_endpoint(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/quiz_start", "/quiz_guess", "/quiz_next", "/tour", "/generate", "/handout"} <= set(named)


def test_a_round_through_the_endpoints(client, own):
    question, *_ = client.predict([handle_file(own)], "", api_name="/quiz_start")
    for number in range(1, 5):
        assert f"Picture {number} of 4" in question
        told, score = client.predict("photographed", "embedded", api_name="/quiz_guess")
        assert "You said photographed, the detector says" in told and f"after {number}" in score
        question, *_ = client.predict(api_name="/quiz_next")
    assert re.search(r"you 2, detector \d of 4", question)  # half of the pictures were photographed


def test_no_reply_before_the_guess_tells_what_a_picture_is(server):
    """The very bytes that the server sends, of a round over the examples, whose lines say what they are."""
    told = re.sub(r"base64,[A-Za-z0-9+/=]+", "", through_queue(server, [[], ""], "quiz-a", "quiz_start"))
    told += re.sub(r"base64,[A-Za-z0-9+/=]+", "", answer(server, "quiz_start", [[], ""]))
    assert "Picture 1 of 8" in told
    assert not re.search("china|flower|temple|autoencoder|Photograph:|Synthetic|label|real", told)


def test_sessions_do_not_share_a_round(client, server):
    client.predict([], "", api_name="/quiz_start")
    stranger = Client(server, verbose=False)
    try:
        assert "Start a round first" in stranger.predict("made", "embedded", api_name="/quiz_guess")[0]
        assert "Start a round first" in stranger.predict(api_name="/quiz_next")[1]
    finally:
        stranger.close()


def test_tour_and_hand_out_through_the_endpoints(client, picture):
    for step in STEPS:
        view = client.predict(handle_file(picture), "embedded", step, 0.4, api_name="/tour")
        assert view.count("<img") == 2 and view.count('class="sentence"') == 1
    assert "Analyse an image first" in client.predict(api_name="/handout")
    client.predict(handle_file(picture), api_name="/analyze")
    assert '<article class="sheet">' in client.predict(api_name="/handout")


def test_a_drawing_through_the_endpoint(client):
    picture, note = client.predict("a photo of a rose", 3, 5, api_name="/generate")[:2]
    path = picture["path"] if isinstance(picture, dict) else picture
    assert Image.open(path).size == (128, 128) and "drawing 5" in note
    assert "few words" in client.predict("?", 3, 5, api_name="/generate")[1]


def test_the_tools_for_mcp_are_not_on_the_page(server):
    names = {d["api_name"] for d in httpx.get(f"{server}/config").json()["dependencies"]}
    assert not names & {"compare_images", "what_if_image", "report_image"}


# --- browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, server):  # noqa: F811
    """Opens the page with a query at a width; collects errors of the console."""
    contexts = []

    def open_page(query: str = "?tab=Teach", width: int = 1440, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.errors = []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server + query, timeout=120_000)
        page.wait_for_selector("[role=tab]", timeout=120_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


def fits(page) -> bool:
    return page.evaluate(OVERFLOW) <= 0


@needs_chromium
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_a_round_is_played_through(opened, own, width):
    page = opened(width=width)
    page.wait_for_selector("#quiz-start", timeout=60_000)
    page.get_by_role("button", name="Pictures of your own").click()
    page.locator("#quiz-files input[type=file]").set_input_files(own)
    page.wait_for_selector("#quiz-files .file-preview", timeout=60_000)
    page.locator("#quiz-start").click()
    for number in range(1, 5):
        page.wait_for_selector(f"#quiz-question >> text=Picture {number} of 4", timeout=60_000)
        assert not re.search("real-|synthetic-", page.inner_html("#teach-quiz"))  # no name of a file that would tell
        assert page.locator("#quiz-answer h3").count() == 0 and fits(page)
        page.locator(("#quiz-photographed", "#quiz-made")[number % 2]).click()
        page.wait_for_selector("#quiz-answer h3 >> text=You are", timeout=120_000)
        assert 1 <= page.locator("#quiz-answer li").count() <= 3 and fits(page)
        assert not page.locator("#quiz-made").is_visible()
        assert f"after {number}" in page.inner_text("#quiz-score")
        page.wait_for_function("document.activeElement?.id === 'quiz-next'", timeout=10_000)
        page.keyboard.press("Enter")
    page.wait_for_selector("#quiz-question >> text=/you \\d, detector \\d of 4/", timeout=60_000)
    page.locator("#quiz-start").click()
    page.wait_for_selector("#quiz-question >> text=Picture 1 of 4", timeout=60_000)
    assert page.inner_text("#quiz-score") == "" and page.errors == []


@needs_chromium
@pytest.mark.parametrize("width", [1440, 390])
def test_a_picture_is_drawn_and_opened_in_analyze(opened, width):
    page = opened("?tab=Teach&part=Draw", width)
    page.wait_for_selector("#draw-start", timeout=60_000)
    page.locator("#teach-draw").get_by_text("a photo of a rose").click()
    page.locator("#draw-start").click()
    page.wait_for_selector("#draw-picture img", timeout=120_000)
    assert "Synthetic: drawing 0" in page.inner_text("#draw-note") and fits(page)
    keep_screenshot(page, f"Draw-{width}")
    page.locator("#draw-open").click()
    page.wait_for_selector("#verdict .card .big", timeout=120_000)
    assert "128 × 128" in page.inner_text("#verdict") and page.errors == []


@needs_chromium
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_tour_goes_through_its_steps_and_into_the_address(opened, width):
    page = opened("?tab=Teach&part=Tour&step=sharpness", width)
    page.wait_for_selector("#tour-view >> text=Laplacian variance", timeout=120_000)
    assert "3 of 6" in page.inner_text("#tour-heading") and fits(page)
    page.locator("#tour-next").click()
    page.wait_for_selector("#tour-view >> text=heavy vignetting", timeout=120_000)
    page.wait_for_url(lambda url: "step=concepts" in url, timeout=10_000)
    page.locator("#tour-previous").click()
    page.wait_for_selector("#tour-view >> text=Laplacian variance falls", timeout=120_000)
    page.locator("#tour-amount input[type=range]").focus()
    page.keyboard.press("Home")  # by keyboard, to 0
    page.wait_for_selector("#tour-view >> text=Laplacian variance stays", timeout=120_000)
    page.get_by_label("2 Spectrum").click()
    page.wait_for_selector("#tour-view >> text=cycles per pixel", timeout=120_000)
    assert "step=spectrum" in page.url and fits(page) and page.errors == []
    assert page.locator("#tour-amount input[type=range]").input_value() == "0.5"  # each step begins in the middle


@needs_chromium
@pytest.mark.parametrize("allowed", [True, False], ids=["full screen", "over the page"])
def test_full_screen_fills_the_window_and_goes_by_keys(opened, allowed):
    page = opened("?tab=Teach&part=Tour", reduced_motion="reduce")
    page.wait_for_selector("#tour-view >> text=Noise sigma", timeout=120_000)
    size = "parseFloat(getComputedStyle(document.querySelector('#tour-view .sentence')).fontSize)"
    small = page.evaluate(size)
    if not allowed:
        page.evaluate("() => { Element.prototype.requestFullscreen = () => Promise.reject(new Error('not allowed')); }")
    page.locator("button[data-slides=teach-tour]").click()
    page.wait_for_selector("#teach-tour.slides", timeout=10_000)
    box = page.locator("#teach-tour").bounding_box()
    assert [box[side] for side in ("x", "y", "width", "height")] == [0, 0, *page.viewport_size.values()]
    assert page.evaluate(size) >= 1.3 * small
    assert page.locator("button[data-slides=teach-tour]").inner_text() == "Leave full screen"
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tour-heading >> text=2 of 6", timeout=30_000)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#tour-heading >> text=1 of 6", timeout=30_000)
    page.wait_for_selector("#tour-view >> text=Noise sigma", timeout=120_000)
    assert page.locator("#tour-next").bounding_box()["y"] < 900  # all of it is on the screen
    page.keyboard.press("Escape")
    page.wait_for_selector("#teach-tour:not(.slides)", timeout=10_000)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert "1 of 6" in page.inner_text("#tour-heading") and page.errors == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(opened, scheme):
    page = opened(color_scheme=scheme)
    page.locator("#quiz-start").click()
    page.locator("#quiz-made").click(timeout=60_000)
    page.wait_for_selector("#quiz-answer h3", timeout=120_000)
    page.wait_for_timeout(500)
    assert page.evaluate(CONTRAST) == []
    page.locator("button[data-slides=teach-quiz]").click()
    page.wait_for_timeout(300)
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Tour").click()
    page.wait_for_selector("#tour-view .sentence", timeout=120_000)
    page.wait_for_timeout(500)
    assert page.evaluate(CONTRAST) == []


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


@needs_chromium
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_hand_out_is_one_page_of_paper(opened, picture, width):
    page = opened("", width)
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=120_000)
    open_tab(page, "Teach")
    page.get_by_role("tab", name="Hand-out").click()
    page.wait_for_selector("#handout .sheet", timeout=120_000)
    page.wait_for_timeout(1000)  # Gradio fades the part in, from a contrast of 1.5
    assert fits(page) and page.evaluate(CONTRAST) == []
    assert [pages(page.pdf(format=paper)) for paper in ("A4", "Letter")] == [1, 1]
    page.evaluate("() => { window.printed = 0; window.print = () => { window.printed += 1; }; }")
    page.locator("#handout-print").click()
    page.wait_for_function("window.printed === 1", timeout=10_000)
    assert page.errors == []


@needs_chromium
def test_other_tabs_are_printed_as_they_are(opened, picture):
    page = opened()
    page.get_by_role("tab", name="Hand-out").click()
    page.wait_for_selector("#handout [role=status]", timeout=60_000)
    assert "Analyse an image first" in page.inner_text("#handout")
    page.get_by_role("tab", name="Analyze").click()
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=120_000)
    open_tab(page, "Teach")
    page.get_by_role("tab", name="Quiz").click()
    page.get_by_role("tab", name="Hand-out").click()
    page.wait_for_selector("#handout .sheet", timeout=120_000)
    page.get_by_role("tab", name="Analyze").click()
    page.evaluate("addEventListener('beforeprint', () => { window.sheet = document.documentElement.hasAttribute('data-sheet'); })")
    page.pdf(format="A4")
    assert page.evaluate("window.sheet") is False
    assert page.errors == []
