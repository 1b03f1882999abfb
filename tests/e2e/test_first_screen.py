"""The first screen, the two wordings, links, examples and contrast in a real Chromium."""

from pathlib import Path

import pytest
from test_page import browser, complete, open_panel, upload  # noqa: F401
from test_page import pytestmark as needs_chromium

pytestmark = needs_chromium
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture
def desktop(browser, server):  # noqa: F811
    """Opens the page at 1440 × 900 with a query; collects errors of the console."""
    contexts = []

    def open_page(query: str = "", **options):
        contexts.append(browser.new_context(viewport=DESKTOP, **options))
        page = contexts[-1].new_page()
        page.errors = []
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server + query)
        page.wait_for_selector("#image")
        return page

    yield open_page
    for context in contexts:
        context.close()


def bottom(page, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    return box["y"] + box["height"]


def test_the_first_screen_holds_the_answer(desktop, picture):
    page = desktop()
    upload(page, picture)
    complete(page)
    page.wait_for_selector("#map-over img", timeout=120_000)
    page.wait_for_selector("#saved-again >> text=copies", timeout=120_000)
    assert 1 <= page.locator("#reasons li a").count() <= 3 and page.locator("#trust li").count() == 6
    for selector in ("#image", "#map-switch", "#verdict .card", "#reasons", "#trust", "#saved-again"):
        assert bottom(page, selector) <= DESKTOP["height"], selector
    image, over = (page.locator(f"{where} img").first.bounding_box() for where in ("#image .image-frame", "#map-over"))
    assert all(abs(image[side] - over[side]) <= 1 for side in image)
    page.locator("#map-switch").get_by_text("Off").click()
    page.wait_for_selector("#map-over img", state="detached", timeout=30_000)
    page.locator("#reasons li a").first.click()
    page.wait_for_selector("#story .opened", timeout=30_000)
    assert page.errors == []


def test_plain_words_never_speak_of_logits_and_the_choice_is_remembered(desktop, picture):
    page = desktop()
    upload(page, picture)
    complete(page)
    for key in ("residual", "concepts", "orthogonal", "item"):
        open_panel(page, key)
    assert "logit" not in page.inner_text("body").lower()
    page.get_by_role("button", name="Expert").click()
    assert "logit" in page.inner_text("#verdict") and "bias" in page.inner_text("#card-residual")
    page.goto(page.url.split("?")[0])
    page.wait_for_selector("button[data-words=expert][aria-pressed=true]", timeout=30_000)


def test_a_link_brings_example_map_detector_and_wording_back(desktop):
    page = desktop()
    page.locator("#examples").get_by_text("Photograph: a flower").click()
    page.wait_for_selector("#verdict .card .big", timeout=60_000)
    complete(page)
    page.locator("#map-switch").get_by_text("Objects").click()
    page.get_by_role("button", name="Expert").click()
    page.wait_for_url(lambda url: all(part in url for part in ("example=flower.jpg", "map=Objects", "words=expert")), timeout=30_000)
    again = desktop("?" + page.url.split("?")[1] + "&detector=embedded/sdd")
    again.wait_for_selector("#verdict >> text=embedded/sdd", timeout=90_000)
    assert again.locator("#map-switch input:checked").get_attribute("value") == "Objects"
    assert again.evaluate("document.documentElement.dataset.words") == "expert"


def test_an_upload_is_in_no_link(desktop, picture):
    page = desktop("?example=flower.jpg")
    page.wait_for_selector("#verdict .card .big", timeout=90_000)
    page.locator("#image button[aria-label*='emove' i], #image button[aria-label*='lear' i]").first.click()
    page.wait_for_selector("#verdict >> text=Drop an image", timeout=30_000)
    upload(page, picture)
    page.wait_for_selector("#verdict .card .big", timeout=60_000)
    assert "example" not in page.url and "temple" not in page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("words", ["plain", "expert"])
def test_texts_have_contrast(desktop, picture, scheme, words):
    page = desktop(f"?words={words}", color_scheme=scheme)
    upload(page, picture)
    complete(page)
    page.wait_for_timeout(500)
    assert page.evaluate(CONTRAST) == []
