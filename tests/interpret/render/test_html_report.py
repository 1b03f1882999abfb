"""interpret/render/html_report.py: stands on its own, shows the record's numbers, and takes nothing for markup."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from detector.data.images import load_photo
from interpret.render.html_report import html_report, markdown, safe_stem

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)>.jpg'


class Tags(HTMLParser):
    """All tags with their attributes; open tags must be closed in order."""

    VOID = {"meta", "img", "br", "line", "rect", "circle", "polyline"}

    def __init__(self, text: str):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def analysed(suite, picture):
    photo = load_photo(picture)
    return suite.analyze(photo).to_dict(), photo


@pytest.fixture(scope="module")
def text(analysed, suite) -> str:
    record, photo = analysed
    return html_report(record | {"file": EVIL}, suite, photo, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


def test_it_is_closed_html_without_scripts_handlers_or_requests(text):
    page = Tags(text)
    assert page.open == [] and {"html", "main", "svg", "table"} <= {tag for tag, _ in page.found}
    assert "script" not in {tag for tag, _ in page.found}
    for tag, attributes in page.found:
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attributes
        assert tag not in ("link", "iframe", "object", "base", "form")
    assert "default-src 'none'" in text and "&lt;script&gt;alert(1)" in text
    assert "url(" not in text and "@import" not in text


def test_it_shows_the_numbers_of_the_record(text, analysed):
    record, _ = analysed
    assert f"{100 * record['verdict']['probability']:.0f} %" in text and "2026-01-02 03:04 UTC" in text
    strongest = record["concepts"][0]
    assert strongest["positive"] in text and f"{strongest['contribution']:+.3f}" in text
    assert f"{record['physical_contributions']['saturation']:+.2f}" in text
    for title in (
        "All methods",
        "The exact pixels",
        "Photographic concepts",
        "Orthogonal units",
        "Pixel residual",
        "Physical descriptors",
    ):
        assert f"<h2>{title}</h2>" in text
    assert text.count("How good is this?") == 5 and text.count("<svg") == 4


def test_every_picture_has_words_for_those_who_cannot_see_it(text):
    for tag, attributes in Tags(text).found:
        if tag in ("img", "svg"):
            assert attributes.get("alt") or attributes.get("aria-label"), tag


def test_it_stays_small_for_the_noisiest_image(suite):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    record = suite.analyze(noise).to_dict()
    assert len(html_report(record, suite, load_photo(noise))) < 1_000_000


def test_parts_that_it_does_not_know_get_their_own_section(analysed, suite):
    record, photo = analysed
    text = html_report(record | {"item": {"caption": "<b>a dog</b>"}, "maps": list(range(9000)), "none": {}}, suite, photo)
    assert "<h2>item</h2>" in text and "&lt;b&gt;a dog" in text
    assert "<h2>maps</h2><p>Too long" in text and "<h2>none" not in text


@pytest.mark.parametrize(
    "leader, title",
    [
        ("embedded/verdict", "All methods"),
        ("embedded/orthogonal", "Orthogonal units"),
        ("vit-l-14-336/concepts@synthclic-combined", "Photographic concepts"),
        ("embedded/physical_clip", "Physical descriptors"),
        ("embedded/item", "item"),
    ],
)
def test_the_section_of_the_detector_that_leads_comes_first(analysed, suite, leader, title):
    record, photo = analysed
    titles = re.findall("<section><h2>([^<]*)</h2>", html_report(record | {"leader": leader}, suite, photo))
    assert titles[0] == title and len(set(titles)) == len(titles) >= 6


def test_a_record_with_an_error_gives_its_sentence(analysed, suite):
    text = html_report({"file": "a.jpg", "error": "“<a>” is empty.", "backbone": "embedded"}, suite, analysed[1])
    assert "“&lt;a&gt;” is empty." in text and "<h2>All methods" not in text and Tags(text).open == []


@pytest.mark.parametrize(
    "name, stem",
    [
        ("photo.jpg", "photo"),
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.png", "b"),
        ("…", "image"),
        (None, "image"),
        ("a b<c>.tar.gz", "a-b-c-.tar"),
        (".hidden", "hidden"),
        ("x" * 300 + ".png", "x" * 40),
        ("con\n\x00.png", "con"),
    ],
)
def test_file_names_are_safe(name, stem):
    assert safe_stem(name) == stem and re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", stem)


def test_markdown_of_our_own_texts():
    assert markdown("**a** *b* [c](https://x.org/1)") == ('<strong>a</strong> <em>b</em> <a href="https://x.org/1" rel="noreferrer">c</a>')
    assert markdown("[x](javascript:alert(1)) <b>") == "[x](javascript:alert(1)) &lt;b&gt;"
