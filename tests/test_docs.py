"""README and cards say what was measured, and what they tell people to type exists."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

from detector.assets import MODELS
from detector.evaluation.evaluate import measured_on
from detector.evaluation.tables import REPORTS, WHOLE, embedded_report, marks_of, sources_table, text_of_mark
from detector.methods.registry import METHODS, PIXEL_METHODS

README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADS = MODELS / "embedded" / "heads"
CARDS = {method: (MODELS / "pixels" if method in PIXEL_METHODS else HEADS) / f"{method}.md" for method in (*METHODS, "verdict")}
MARKDOWN = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *MODELS.rglob("*.md")]


def between(text: str, name: str) -> str:
    return re.search(f"<!-- {name} -->\n(.*?)\n<!-- end {name} -->", text, re.DOTALL).group(1)


def test_the_embedded_model_s_figures_are_the_measured_ones():
    metrics = json.loads((MODELS / "embedded" / "metrics.json").read_text(encoding="utf-8"))
    assert between((MODELS / "embedded" / "README.md").read_text(encoding="utf-8"), "embedded") == embedded_report(metrics)


@pytest.mark.parametrize("file", [ROOT / "README.md", HEADS / "README.md", *CARDS.values()], ids=lambda file: file.stem)
def test_every_figure_in_a_file_is_the_measured_one(file):
    text = file.read_text(encoding="utf-8")
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (MODELS / "embedded").glob("*.json")}
    stored |= {"evaluation": stored["evaluation"]["splits"], "weights": stored["evaluation"].get("weights")}
    stored["leave_sources_out"] = stored.get("leave_sources_out", {}).get("corpora")
    for mark in marks_of(file, *REPORTS, *WHOLE):
        assert between(text, mark) == text_of_mark(mark, stored[mark.split()[0]]), mark


@pytest.mark.parametrize("method, card", CARDS.items())
def test_a_method_s_card_has_its_figures(method, card):
    assert marks_of(card, *REPORTS) == [f"evaluation {method}", f"robustness {method}"]
    assert f"| {method} |" in between(card.read_text(encoding="utf-8"), f"evaluation {method}")


def test_the_overviews_name_every_card_and_compare_every_method():
    overview = (HEADS / "README.md").read_text(encoding="utf-8")
    results = json.loads((MODELS / "embedded" / "evaluation.json").read_text(encoding="utf-8"))["splits"]
    (mark,) = marks_of(HEADS / "README.md", "sources")
    assert set(mark.split()[1:]) == set(CARDS) and between(overview, mark) == sources_table(results, mark.split()[1:])
    for folder, methods in ((HEADS, CARDS), (MODELS / "pixels", PIXEL_METHODS)):
        links = re.findall(r"^\| \[(\w+)\]\(([^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert {name: (folder / link).resolve() for name, link in links} == {name: CARDS[name].resolve() for name in methods}


@pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(file):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)):
        assert "://" in link or (file.parent / link).exists(), link


def test_the_heatmaps_figures_are_the_measured_ones():
    from interpret.attribution import map_measures as mapcard

    card = CARDS["sdd"].read_text(encoding="utf-8")
    path = mapcard.path_of("embedded")
    assert between(card, "maps") == (mapcard.report(mapcard.load_json(path)) if path.is_file() else "Not measured yet.")


def test_the_studies_figures_are_the_measured_ones():
    from detector.evaluation.studies import STUDIES

    results = json.loads((MODELS / "embedded" / "studies.json").read_text(encoding="utf-8"))
    cards = "".join(card.read_text(encoding="utf-8") for card in (HEADS / "README.md", *CARDS.values()))
    assert set(results) == set(STUDIES)
    for name, result in results.items():
        assert between(cards, f"study {name}") == STUDIES[name].report(result)


def test_the_selection_s_figures_are_the_measured_ones():
    from detector.methods.physical.selection import selection_report

    result = json.loads((MODELS / "embedded" / "selection.json").read_text(encoding="utf-8"))
    card = CARDS["physical"].read_text(encoding="utf-8")
    assert between(card, "selection") == selection_report(result)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_models_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 80_000_000


def test_ci_runs_the_readme_s_test_command():
    command = "sed -n '/<!-- test command -->/,/```$/p' README.md | grep -v -e '```' -e '<!--'"
    found = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert found.startswith("python3 -m venv") and found.endswith("-m pytest -m slow") and found in README
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_commands_named_in_the_readme_exist():
    from detector.cli.main import parser

    commands = next(action.choices for action in parser()._actions if action.dest == "command")
    named = re.findall(r"^\| `([a-z-]+)", README.split("## On the command line")[1].split("##")[0], re.MULTILINE)
    assert set(named) == set(commands)


def test_space_front_matter():
    front = README.split("---")[1]
    for key in ("sdk: gradio", "app_file: app.py", 'python_version: "3.12"', "license: mit"):
        assert key in front
    assert len(re.search("short_description: (.*)", front).group(1)) <= 60


def test_no_machine_s_path_stands_in_the_project():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")[:-1]
    assert tracked or not (ROOT / ".git").exists()
    patterns = ["/" + "work/", "/" + "root/", "/" + "tmp/bash"]  # put together here, so that this file does not hold them
    for name in tracked:
        if Path(name).suffix in {".py", ".md", ".txt", ".toml", ".json", ".csv", ""} and (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            assert not any(pattern in text for pattern in patterns), name


@pytest.mark.parametrize("file", ["evaluation", "robustness"])
def test_the_figures_were_measured_on_the_shipped_weights(file, suite):
    stored = json.loads((MODELS / "embedded" / f"{file}.json").read_text(encoding="utf-8"))
    assert stored["measured_on"] == measured_on(suite)


def test_the_studies_were_made_on_the_shipped_weights(suite):
    from detector.evaluation.studies import STUDIES

    stored = json.loads((MODELS / "embedded" / "studies.json").read_text(encoding="utf-8"))
    for name, result in stored.items():
        assert result["measured_on"] == STUDIES[name].measured_on(suite.backbone), name


def test_the_maps_were_measured_on_the_shipped_heads(suite):
    from interpret.attribution import explain
    from interpret.attribution import map_measures as mapcard

    assert mapcard.load_json(mapcard.path_of("embedded"))["fingerprints"] == mapcard.fingerprints(explain.map_heads(suite))


def test_tests_that_documents_name_exist():
    for file in MARKDOWN:
        for name in re.findall(r"`(tests/[\w/]+\.py)", file.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{file.name}: {name}"


def test_no_test_file_is_long():
    assert not [path for path in (ROOT / "tests").rglob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) >= 400]
