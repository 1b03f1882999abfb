"""Every name that a file takes from our packages is there, also in the benches, which no test runs."""

import ast
from importlib import import_module
from importlib.util import find_spec

import pytest
from paths import ROOT

FILES = sorted(
    path
    for part in ("app.py", "detector", "interpret", "tests")
    for path in [ROOT / part, *(ROOT / part).rglob("*.py")]
    if path.suffix == ".py"
)


def names_taken(path):
    """(module, name) of every `from detector… import` or `from interpret… import`, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("detector", "interpret"):
            yield from ((node.module, alias.name) for alias in node.names if alias.name != "*")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_is_there(path):
    for module, name in names_taken(path):
        assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module} has no {name}"
