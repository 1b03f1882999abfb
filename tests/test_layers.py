"""Which part of the code may import which: downwards only, lazy imports included."""

from graphlib import TopologicalSorter

import grimp
import pytest
from paths import ROOT

# From the top down; modules in one row may know one another.
LAYERS = [
    ["interpret.tabs"],
    ["interpret.panels"],
    [
        "interpret.render",
        "interpret.attribution",
        "interpret.concepts",
        "interpret.stability",
        "interpret.misalignment",
        "interpret.examples",
        "interpret.batch",
        "interpret.compare",
        "interpret.concept_use",
        "interpret.teach",
        "interpret.training_report",
        "interpret.what_if",
    ],
    ["detector.report"],
    ["detector.evaluation"],
    ["detector.training"],
    ["detector.scale"],
    ["detector.suite"],
    ["detector.roster"],
    ["detector.assembly"],
    ["detector.extraction", "detector.scoring", "detector.parts"],
    ["detector.analysis"],
    ["detector.verdict"],
    ["detector.detectors"],
    ["detector.methods"],
    ["detector.clip"],
    ["detector.hub", "detector.data"],
    ["detector.trainer"],
    [
        "detector.assets",
        "detector.devices",
        "detector.progress",
        "detector.records",
        "detector.steps",
        "detector.checkpoints",
        "detector.logistic",
        "detector.markdown",
    ],
]
COMMAND_LINE = {"detector.__main__", "detector.cli"}  # stand above everything, as the page does
ALIAS = "detector.published"  # the documented name of a module below


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("detector", "interpret", include_external_packages=True, exclude_type_checking_imports=True)


def top(module: str) -> str:
    return ".".join(module.split(".")[:2])


def floor(module: str) -> int:
    return next(i for i, row in enumerate(LAYERS) if top(module) in row)


def below(graph):
    """(importer, imported) for every import between parts of the code, command line and alias left out."""
    inside = [module for module in graph.modules if module.startswith(("detector.", "interpret.")) and top(module) not in COMMAND_LINE]
    for importer in inside:
        for imported in graph.find_modules_directly_imported_by(importer):
            if importer != ALIAS and imported.startswith(("detector.", "interpret.")) and top(imported) != top(importer):
                yield importer, imported


def test_every_part_has_a_floor(graph):
    parts = {top(module) for module in graph.modules if module.count(".") and module.startswith(("detector.", "interpret."))}
    assert parts - COMMAND_LINE - {ALIAS} == {name for row in LAYERS for name in row}


def test_imports_go_down(graph):
    upward = [f"{importer} imports {imported}" for importer, imported in below(graph) if floor(imported) < floor(importer)]
    assert upward == []


def test_there_is_no_circle_of_modules(graph):
    ours = [module for module in graph.modules if module.startswith(("detector.", "interpret."))]
    list(TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in ours}).static_order())  # or CycleError


@pytest.mark.parametrize(
    "package, alone", [("gradio", ("interpret.panels", "interpret.tabs")), ("interpret", ("interpret", "detector.cli"))]
)
def test_only_the_page_knows_gradio_and_only_the_command_line_what_explains(graph, package, alone):
    names = [package] if package == "gradio" else [module for module in graph.modules if module.startswith("interpret.")]
    users = {user for name in names if name in graph.modules for user in graph.find_modules_that_directly_import(name)}
    assert [user for user in sorted(users) if not user.startswith(alone)] == []


def test_no_file_of_the_code_is_over_400_lines():
    files = [path for folder in ("detector", "interpret") for path in (ROOT / folder).rglob("*.py")]
    assert not [str(path) for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400]
