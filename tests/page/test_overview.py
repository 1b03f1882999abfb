"""The first screen and the cards in words, worked out by hand; what a link sets; what an opened page remembers."""

import re

import gradio as gr
import pytest

from detector.evaluation.groups import KINDS
from interpret.panels import links, overview, service, story
from interpret.render import cards, svg, trust
from interpret.render import overview as words
from interpret.render.text import METHOD_NAMES, PANEL_NAMES

SCORE = {"probability": 0.6, "logit": 0.4, "bias": 0.1}


def record(**changes) -> dict:
    base = {
        "error": None,
        "backbone": "embedded",
        "width": 200,
        "height": 100,
        "leader": "embedded/verdict",
        "file_facts": {"format": "JPEG", "jpeg_quality": 84},
        "detectors": {"sdd": SCORE | {"logit": -2.2}, "residual": SCORE, "physical": SCORE},
        "verdict": {
            "label": "synthetic",
            "probability": 0.8,
            "logit": 1.4,
            "bias": 0.0,
            "contributions": {"residual": 2.0, "sdd": -0.5, "physical": 0.3},
        },
        "residual": {"spectrum luma": 1.2, "sign patterns": -0.1},
        "heads": {},
    }
    return base | changes


def shown(html: str, wording: str) -> str:
    """The text that the page shows in one wording."""
    other = {"plain": "expert", "expert": "plain"}[wording]
    return re.sub("<[^>]+>", "", re.sub(f'<(span|p) class="[^"]*{other}[^"]*">.*?</\\1>', "", html))


def test_reasons_are_those_on_the_side_of_the_verdict_the_strongest_first():
    assert [(reason.key, reason.logits) for reason in words.reasons(record())] == [("residual", 2.0), ("physical", 0.3)]
    either = record(verdict=record()["verdict"] | {"label": "inconclusive"})
    assert [reason.key for reason in words.reasons(either)] == ["residual", "sdd", "physical"]
    html = words.reasons_html(either)
    assert (
        html.count('data-shows="') == 3
        and 'href="#card-residual"' in html
        and "most of all the spectrum of fine detail in brightness" in html
    )


def test_a_leader_that_is_a_sum_gives_its_parts_as_reasons():
    alone = words.reasons(record(leader="pixels/residual"))
    assert [(reason.name, reason.key, reason.logits) for reason in alone] == [("Spectrum luma", "residual", 1.2)]


def test_plain_words_know_no_logit_and_experts_get_it():
    html = words.reasons_html(record()) + trust.trust_html(record()) + cards.card_html("residual", cards.residual_card(record()), record())
    plain, expert = shown(html, "plain"), shown(html, "expert")
    assert "logit" not in plain and "AUROC" not in plain and "bias" not in plain and "leans towards" in plain + "leans towards"
    assert "+2.00 logits" in expert and "logit +0.40" in expert and "bias +0.10" in expert and "AUROC" in expert
    assert "leans strongly towards" not in expert


@pytest.mark.parametrize(
    "logit, words_",
    [
        (0.05, "leans towards neither side"),
        (0.3, "leans slightly towards synthetic"),
        (-1, "leans towards real"),
        (-3, "leans strongly towards real"),
    ],
)
def test_a_logit_in_words(logit, words_):
    assert cards.leaning(logit) == words_


ROW = {"auroc": 0.9, "auroc_95": [0.8, 0.95], "coverage": 0.5, "error_of_labelled": 0.25}


def measured(monkeypatch, prefix: str = "", **subgroups) -> None:
    """Stored figures of one data folder, with the given groups of pictures."""
    verdict = {"overall": ROW | {"images": [30, 10]}, "real_sources": REAL, "subgroups": subgroups}
    splits = {f"{prefix}test_unseen": {"verdict": verdict}, f"{prefix}test_seen": {"verdict": {"overall": {}}}}
    changes = {f"{prefix}test_unseen": {"JPEG 85": {"verdict": ROW}, "JPEG 40": {"verdict": ROW}}}
    robustness = {"images": {f"{prefix}test_unseen": [4, 4]}, "splits": changes}
    left_out = {"corpora": {"all": {"verdict": ROW | {"images": [50, 50], "auroc": 0.6, "error_of_labelled": 0.3}}}}
    files = {trust.ROBUSTNESS: robustness, trust.LEFT_OUT: left_out}
    monkeypatch.setattr(trust, "read_json", lambda file: files.get(file, {"splits": splits}))


def test_trust_comes_from_the_measured_tables(monkeypatch):
    measured(monkeypatch)
    html = trust.trust_html(record())
    assert "elsewhere (whole sources left out): " in html and "of which 30 % are wrong" in html and "AUROC 0.60" in html
    assert "50 of 100 get a label, of which 25 % are wrong." in html and "AUROC 0.90 (0.80 to 0.95), 40 images" in html
    assert "saved again as JPEG 85" in html and "JPEG 40" not in html and "8 images" in html
    assert "40 % look synthetic to it in the worst collection (games)" in html and "few)" not in html
    assert "PNG was not measured apart" in trust.trust_html(record(file_facts={"format": "PNG", "jpeg_quality": None}))
    assert "was not measured by this project" in trust.trust_html(record(leader="vit-l-14/linear@univfd"))


def test_trust_speaks_of_pictures_of_the_same_kind_and_size(monkeypatch):
    group = ROW | {"images": [20, 20], "auroc": 0.61, "auroc_95": [0.5, 0.7], "error_of_labelled": 0.4}
    measured(monkeypatch, "web/", portrait=group, place={"images": [3, 0]}, **{"long side to 256 px": group})
    html = trust.trust_html(record(), "portrait")
    assert "takes it for a portrait; on portraits (web), " in html and "AUROC 0.61 (0.50 to 0.70), 40 images" in html
    assert "Size: long side to 256 px (web), " in html and "Generators it never met: " in html
    assert "900 pixels; measured is only long side to 256 px" in trust.trust_html(record(width=900))
    assert "too few places were measured" in trust.trust_html(record(), "place") and "Kind" not in trust.trust_html(record())


def test_the_kind_of_a_picture_is_what_clip_takes_it_for(suite, picture, monkeypatch):
    monkeypatch.setitem(service._suites, "embedded", suite)
    _, current = service.analyze(picture)
    assert overview.kind_of(current) in KINDS


REAL = {
    "games": {"images": 20, "false_positive_rate": 0.4},
    "few": {"images": 2, "false_positive_rate": 1.0},
    "houses": {"images": 10, "false_positive_rate": 0.0},
}


def test_the_line_on_copies_names_those_that_change_the_verdict():
    from interpret.stability import Outcome, Stability

    outcomes = [Outcome(name, how, {}, label, p) for name, how, label, p in COPIES]
    html = words.saved_again_html(Stability(tuple(outcomes)))
    assert "changes in 1 of 2 copies (synthetic as WebP 80)" in html and 'class="bad"' in html and "10 to 80 %" in html
    assert "stays real in all 1 copies" in words.saved_again_html(Stability(tuple(outcomes[:2])))
    assert svg.small_columns([(o.probability, o.label) for o in outcomes], "x").count("<rect") == 4


COPIES = [
    ("as it is", "as it is", "real", 0.1),
    ("JPEG 70", "saved as JPEG 70", "real", 0.2),
    ("WebP 80", "saved as WebP 80", "synthetic", 0.8),
    ("size 50 %", "resized to 50 %", "inconclusive", 0.5),
]


def test_one_name_for_a_method_everywhere():
    assert {panel.key for panel in story.PANELS} == set(cards.CARDS) <= set(PANEL_NAMES)
    assert len({panel.title for panel in story.PANELS}) == len(story.PANELS)
    assert all(panel.title == METHOD_NAMES.get(panel.key, panel.title) for panel in story.PANELS)
    with gr.Blocks() as page:
        story.build_story()
    headings = {block.value for block in page.blocks.values() if isinstance(block, gr.Markdown) and str(block.value).startswith("### ")}
    assert headings == {f"### {panel.title}" for panel in story.PANELS}


def test_charts_of_cards_are_read_aloud_and_escape_words():
    chart = svg.small_bars([("<b>", 1.0), ("other", -0.5)], "Shares")
    assert "<b>" not in chart and 'aria-label="Shares: &lt;b&gt; +1.00; other -0.50"' in chart
    assert 'class="synthetic"' in chart and 'class="real"' in chart
    assert svg.small_grid([[1.0, None], [-2.0, 0.0]], "x").count('fill-opacity="1.00"') == 1


def test_every_map_of_the_switch_is_drawn(suite, picture, monkeypatch):
    from interpret.panels import sdd

    monkeypatch.setitem(service._suites, "embedded", suite)
    _, current = service.analyze(picture)
    maps = sdd.heatmap(current, progress=lambda *a, **k: None).maps
    assert overview.show_map(current, None, overview.FIRST) == ""  # not there yet
    pictures = {overview.show_map(current, maps, name) for name in overview.MAPS}
    assert len(pictures) == len(overview.MAPS) and all(p.startswith('<img src="data:image/jpeg') for p in pictures)
    assert overview.show_map(current, maps, overview.OFF) == overview.show_map(current, maps, "<b>") == ""
    assert "<svg" in overview.show_map_card(current, maps)


def test_a_link_sets_what_is_offered_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(links, "existing_examples", lambda: [(tmp_path / "china.jpg", "")])
    values = links.restore("?example=china.jpg&detector=embedded/sdd&map=Objects")
    assert values == (str(tmp_path / "china.jpg"), "embedded/sdd", "Objects")
    for query in ("", "?example=../../etc/passwd&detector=RN50/openai&map=<b>", "?detector=ViT-L-14-quickgelu/openai", "?" + "a=b&" * 500):
        assert links.restore(query) == (gr.skip(),) * 3, query  # the large backbone is offered, but a link loads no weights


def test_every_group_of_the_residual_has_plain_words():
    from detector.methods.residual.features import GROUPS

    assert set(words.RESIDUAL_WORDS) == set(GROUPS)
