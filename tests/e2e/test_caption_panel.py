"""The caption panel: what its actions give, with and without an ITEM head; the endpoints; the page in a real Chromium."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradio_client import handle_file
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.clip.captioning import is_truncated, user_caption
from detector.data.images import load_photo
from detector.methods.base import Evidence
from detector.methods.item.alignment import align, record
from detector.methods.item.head import ItemHead
from interpret.panels import item as panel
from interpret.panels.service import GONE, CurrentImage, StoredAnalysis
from interpret.panels.store import STORE, new_key

READING, WORDS, OBJECTS, PICTURE, VIEW, TABLE, SCORE, AMONG, CHART, NUMBERS, EDITED = range(11)
MARKUP = "<script>document.title='owned'</script> a **dog** ${7*7} {{7*7}}"
HOSTILE = [
    "",
    "?!…",
    "word " * 2000,
    "x" * 3000,
    "собака на пляже",
    "犬が海辺を走る",
    "👍",
    MARKUP,
    "dog cat horse bird car bus train boat tree house " * 2,
    "[x](http://example.org) `a` \\ & <b>cat",
    "\x00\u202e a dog",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


def random_head(width: int = 24, hidden: int = 8) -> ItemHead:
    torch.manual_seed(1)
    inputs = 2 * width + 4
    return ItemHead(
        torch.ones(inputs), torch.zeros(inputs), torch.randn(hidden, inputs), torch.zeros(hidden), torch.randn(hidden), torch.tensor(0.0)
    )


def make_suite(backbone, trained: bool):
    """What the panel asks of a suite, with a random ITEM head or without one."""
    torch.manual_seed(2)
    captions = F.normalize(torch.randn(200, 24), dim=1)
    reference = SimpleNamespace(captions=captions, real=np.linspace(-2, 1, 30), synthetic=np.linspace(-1, 2, 30)) if trained else None
    return SimpleNamespace(backbone=backbone, heads={"item": random_head()} if trained else {}, item_reference=reference)


@pytest.fixture(params=[True, False], ids=["trained", "cosines only"])
def use(tiny, picture, monkeypatch, request):
    """(suite, seen): an image captioned "a dog on a beach"."""
    suite, photo = make_suite(tiny, request.param), load_photo(picture)
    images = tiny.prepare(photo.pixels)[None]
    clip = tiny.encode(images)
    alignment = align(tiny, [photo.pixels], images, clip, [user_caption("a dog on a beach")])
    suite.roster = SimpleNamespace(suite_for=lambda method: suite)
    monkeypatch.setattr(panel, "part_of", lambda seen, method: (suite, seen.evidence))
    return suite, remembered(picture, {"item": record(alignment)}, clip, alignment)


def remembered(file: str, numbers: dict, clip, alignment=None) -> CurrentImage:
    """A session that has analysed the file, with these results in the store."""
    seen = CurrentImage(new_key(), file)
    evidence = Evidence(clip, np.zeros((1, 15)), np.zeros((1, 1)), (), alignment)
    STORE.put((seen.key, "analysis"), StoredAnalysis(numbers, evidence))
    return seen


# --- actions -------------------------------------------------------------------------------------------------------


def test_the_panel_and_the_json_agree(use, picture):
    suite, seen = use
    shown = panel.show_caption(SimpleNamespace(current=seen, suite=suite, photo=load_photo(picture)))
    item = seen.record["item"]
    assert shown._fields == panel.first_caption(seen)._fields
    assert (shown.words, shown.objects) == (item["caption"], "dog, beach")
    table = shown.table
    assert [row[1] for row in table] == ["whole caption", "dog", "beach"]
    assert [float(row[2]) for row in table] == pytest.approx([item["global"], *(o["score"] for o in item["objects"])], abs=6e-4)
    assert [[int(n) for n in re.findall(r"\d+", row[3])] for row in table[1:]] == [o["box"] for o in item["objects"]]


def test_another_caption_moves_the_numbers_without_encoding_the_image_again(use, monkeypatch):
    suite, seen = use
    asked, encode = [], suite.backbone.encode
    monkeypatch.setattr(suite.backbone, "encode", lambda images, **options: asked.append(len(images)) or encode(images, **options))
    first, other = panel.first_caption(seen), panel.caption(seen, None, "a cat and a car on a beach", "dog, beach")
    assert asked == [3]  # the crops of the three objects, none of the image
    assert other[OBJECTS] == "cat, car, beach"  # untouched objects are looked up anew
    assert other[TABLE][0][2] != first[TABLE][0][2] and len(other[TABLE]) == 4
    again = panel.caption(seen, None, "a cat and a car on a beach", "dog, beach")
    assert again[TABLE] == other[TABLE] and again[AMONG] == other[AMONG]
    assert panel.first_caption(seen)[TABLE] == first[TABLE]


def test_objects_of_one_s_own_stay_until_they_are_emptied(use):
    _, seen = use
    own = panel.caption(seen, None, "a dog on a beach", "red ball, собака, <b>x</b>")
    assert own[OBJECTS] == "red ball, собака, <b>x</b>" and own[WORDS] == "a dog on a beach"
    assert own[EDITED].caption.source == record(seen.evidence.alignment)["caption_source"]
    same = panel.caption(seen, own[EDITED], "a dog on a beach", own[OBJECTS])
    assert same[TABLE] == own[TABLE]
    assert panel.caption(seen, same[EDITED], "a dog on a beach", " ")[OBJECTS] == "dog, beach"


@pytest.mark.parametrize("count, kept", [(0, 0), (1, 1), (20, 5)])
def test_number_of_objects(use, count, kept):
    _, seen = use
    found = panel.caption(seen, None, "something very odd", ", ".join(f"thing {i}" for i in range(count)))
    assert len(found[TABLE]) == 1 + kept and len(found[VIEW].choices) == 1 + kept
    assert found[PICTURE].value is not None


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_captions_give_numbers_or_a_sentence(use, text):
    suite, seen = use
    found = panel.caption(seen, None, text, "")
    usable = bool(re.search(r"[^\W_]", text))
    assert ("no usable caption" in found[READING]) == (not usable) == (found[TABLE][0][1] == "no caption")
    assert found[SCORE].visible == (usable and "item" in suite.heads) == bool(found[NUMBERS])
    assert not re.search(r"<(?!/?p>)", found[READING])  # nothing but our own paragraphs
    assert ("only the beginning" in found[READING]) == is_truncated(suite.backbone, text)
    assert ("English captions" in found[READING]) == bool(re.search(r"[а-я犬]", text))


def test_the_score_is_set_beside_other_captions(use):
    suite, seen = use
    found = panel.caption(seen, None, "a cat", "")
    if "item" not in suite.heads:
        assert "No ITEM score was trained" in found[READING] and found[CHART].visible is False
        return
    own = float(suite.heads["item"].logits(panel._last(seen, found[EDITED]))[0])
    first = float(suite.heads["item"].logits(seen.evidence.alignment)[0])
    assert f"is {own:+.2f} (with its first caption {first:+.2f})" in found[AMONG] and "of 200 other" in found[AMONG]
    assert "first caption" not in panel.first_caption(seen)[AMONG]
    assert [row[0] for row in found[NUMBERS]] == ["real", "synthetic", "this image, other captions"]


def test_a_model_whose_methods_read_no_caption_writes_one_when_asked(use):
    suite, seen = use
    bare = remembered(seen.file, {}, seen.evidence.clip)
    start = panel.first_caption(bare)
    assert "press Compare" in start[READING] and start[EDITED] is None and start[SCORE].visible is False
    typed = panel.caption(bare, start[EDITED], "a dog on a beach", "")
    assert typed[TABLE] == panel.first_caption(seen)[TABLE]
    assert panel.caption(bare, None, "a dog on a beach", "beach")[OBJECTS] == "beach"
    written = panel.caption(bare, None, "", "")
    assert written[EDITED].caption.source != "user"


def test_what_was_typed_for_another_image_does_not_count(use):
    _, seen = use
    edited = panel.caption(seen, None, "a cat", "")[EDITED]
    other = replace(edited, key=new_key())
    assert panel.caption(seen, other, "a dog on a beach", "dog, beach")[TABLE] == panel.first_caption(seen)[TABLE]


def test_heat_of_an_object_and_unknown_views(use):
    _, seen = use
    boxes, heat = panel.caption_view(seen, None, 0), panel.caption_view(seen, None, 1)
    assert boxes.value != heat.value and "1: dog" in boxes.alt_text
    for odd in (-1, 9, "x", None, [], 1.5):
        assert panel.caption_view(seen, None, odd).value == boxes.value


def test_without_an_image_or_with_a_vanished_one_there_is_a_sentence(use):
    _, seen = use
    assert "Analyse an image first" in panel.caption(None, None, "a dog", "")[READING]
    assert "Analyse an image first" in panel.first_caption(None)[READING]
    assert panel.caption_view(None, None, 1) is None
    gone = remembered("gone.jpg", seen.record, seen.evidence.clip, seen.evidence.alignment)
    for action in (lambda: panel.caption(gone, None, "a dog", ""), lambda: panel.caption_view(gone, None, 1)):
        with pytest.raises(gr.Error, match=GONE):
            action()


# --- endpoints -----------------------------------------------------------------------------------------------------


def test_a_client_edits_its_own_image(client, picture):
    first = client.predict(handle_file(picture), api_name="/analyze")
    edited = client.predict("a red car and a dog", "", api_name="/caption")
    assert edited[WORDS] == "a red car and a dog" and edited[OBJECTS] == "car, dog"
    assert client.predict(1, api_name="/caption_view")
    back = client.predict(api_name="/first_caption")
    item = first.get("item")
    assert back[WORDS] == (item["caption"] if item else "")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_endpoint_answers_hostile_captions(client, picture, text):
    client.predict(handle_file(picture), api_name="/analyze")
    reading = client.predict(text, ", ".join(["x"] * 20), api_name="/caption")[READING]
    assert reading.startswith("<p>") and "Traceback" not in reading


# --- page ----------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def box(page, name):
    return page.locator(f"#{name} textarea, #{name} input").first


@pytest.mark.parametrize("width", [1440, 390], ids=["laptop", "telephone"])
def test_a_teacher_edits_the_caption(browser, server, picture, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(server)
    page.locator("#image input[type=file]").first.set_input_files(str(Path(picture)))
    page.wait_for_selector("#progress >> text=Complete: ", timeout=90_000)
    page.locator("#card-item button").click()
    page.wait_for_selector("#place-item", timeout=30_000)
    box(page, "caption-words").fill(MARKUP)
    box(page, "caption-words").press("Enter")
    page.wait_for_selector("#caption-reading >> text=your words", timeout=30_000)
    assert "<script>" in page.inner_text("#caption-reading") and "${7*7} {{7*7}}" in page.inner_text("#caption-reading")
    assert page.title() == "Cuescope" and page.locator("#caption-reading script, #caption-reading strong").count() == 0
    assert box(page, "caption-objects").input_value() == "dog"
    source = page.locator("#caption-picture img").first.get_attribute("src")
    page.locator("#caption-view input").nth(1).check()
    page.wait_for_function("old => document.querySelector('#caption-picture img').src !== old", arg=source, timeout=30_000)
    box(page, "caption-objects").fill("<img src=x onerror=\"document.title='owned'\">, tree")
    page.locator("#caption-compare").click()
    page.wait_for_selector("#caption-reading >> text=of 2 objects", timeout=30_000)
    page.wait_for_timeout(1000)
    assert page.title() == "Cuescope"
    box(page, "caption-words").fill("x" * 3000)
    box(page, "caption-objects").fill("y" * 300)
    page.locator("#caption-compare").click()
    page.wait_for_selector("#caption-reading >> text=only the beginning", timeout=30_000)
    page.wait_for_timeout(1000)  # the answer fills the boxes after the sentence, and must not overwrite what is typed next
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    box(page, "caption-words").fill("?!")
    box(page, "caption-objects").fill("")
    page.locator("#caption-compare").click()
    page.wait_for_selector("#caption-reading >> text=no usable caption", timeout=30_000)
    page.locator("#caption-reset").click()
    page.wait_for_selector("#caption-reading >> text=no usable caption", state="detached", timeout=30_000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    context.close()
