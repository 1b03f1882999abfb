"""README and cards say what was measured, and what they tell people to type exists."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

from detector.assets import MODELS
from detector.evaluation.evaluate import measured_on
from detector.evaluation.tables import embedded_report, report, robustness_report, robustness_summary

README = (ROOT / "README.md").read_text(encoding="utf-8")


def between(text: str, name: str) -> str:
    return re.search(f"<!-- {name} -->\n(.*?)\n<!-- end {name} -->", text, re.DOTALL).group(1)


@pytest.mark.parametrize("file", ["README.md", "assets/models/embedded/README.md"])
def test_the_embedded_model_s_figures_are_the_measured_ones(file):
    metrics = json.loads((MODELS / "embedded" / "metrics.json").read_text(encoding="utf-8"))
    assert between((ROOT / file).read_text(encoding="utf-8"), "embedded") == embedded_report(metrics)


@pytest.mark.parametrize("file", ["README.md", "assets/models/embedded/heads/README.md"])
def test_the_heads_figures_are_the_measured_ones(file):
    results = json.loads((MODELS / "embedded" / "evaluation.json").read_text(encoding="utf-8"))["splits"]
    assert between((ROOT / file).read_text(encoding="utf-8"), "evaluation") == report(results)


@pytest.mark.parametrize(
    "file, mark, write",
    [
        ("README.md", "robustness summary", robustness_summary),
        ("assets/models/embedded/heads/README.md", "robustness", robustness_report),
    ],
)
def test_the_robustness_figures_are_the_measured_ones(file, mark, write):
    results = json.loads((MODELS / "embedded" / "robustness.json").read_text(encoding="utf-8"))
    assert between((ROOT / file).read_text(encoding="utf-8"), mark) == write(results)


def test_the_heatmaps_figures_are_the_measured_ones():
    from interpret.attribution import map_measures as mapcard

    card = (MODELS / "embedded" / "heads" / "README.md").read_text(encoding="utf-8")
    path = mapcard.path_of("embedded")
    assert between(card, "maps") == (mapcard.report(mapcard.load_json(path)) if path.is_file() else "Not measured yet.")


def test_the_studies_figures_are_the_measured_ones():
    from detector.evaluation.studies import STUDIES

    results = json.loads((MODELS / "embedded" / "studies.json").read_text(encoding="utf-8"))
    card = (MODELS / "embedded" / "heads" / "README.md").read_text(encoding="utf-8")
    assert set(results) == set(STUDIES)
    for name, result in results.items():
        assert between(card, f"study {name}") == STUDIES[name].report(result)


def test_the_selection_s_figures_are_the_measured_ones():
    from detector.methods.physical.selection import selection_report

    result = json.loads((MODELS / "embedded" / "selection.json").read_text(encoding="utf-8"))
    card = (MODELS / "embedded" / "heads" / "README.md").read_text(encoding="utf-8")
    assert between(card, "selection") == selection_report(result)


def test_models_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 80_000_000


def test_ci_runs_the_readme_s_test_command():
    command = "sed -n '/<!-- test command -->/,/```$/p' README.md | grep -v -e '```' -e '<!--'"
    found = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert found.startswith("python3 -m venv") and found.endswith("-m pytest") and found in README
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


def test_the_maps_were_measured_on_the_shipped_head(suite):
    from interpret.attribution import map_measures as mapcard

    assert mapcard.load_json(mapcard.path_of("embedded"))["fingerprint"] == mapcard.fingerprint(suite.heads["sdd"])
