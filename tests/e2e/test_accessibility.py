"""What a screen reader is given: the accessibility tree of each tab, before and after an analysis, walked as such a reader would."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import pytest
from artefacts import keep_screenshot, keep_text
from test_page import browser, complete, upload  # noqa: F401
from test_page import pytestmark as needs_chromium
from test_tabs import TABS, open_tab

from interpret.render.text import HEADLINES

pytestmark = needs_chromium
CONTROLS = {"button", "checkbox", "combobox", "link", "radio", "searchbox", "slider", "spinbutton", "switch", "tab", "textbox"}
HEADINGS = ("Cuescope", "What speaks for", "How far to trust it", "Examples", "What each method says", "Pixel residual")
SILENT = {"generic", "none", "InlineTextBox", "StaticText", "RootWebArea", "LineBreak"}


@dataclass(frozen=True)
class Node:
    """What a reader speaks: role, name, and a heading's level (0 for all else)."""

    role: str
    name: str
    level: int


def spoken(page) -> list[Node]:
    """The nodes that a screen reader comes to, in its order."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    by_id = {node["nodeId"]: node for node in nodes}

    def walk(node: dict) -> list[Node]:
        level = next((p["value"]["value"] for p in node.get("properties", []) if p["name"] == "level"), 0)
        own = [] if node.get("ignored") else [Node(node["role"]["value"], node.get("name", {}).get("value", "").strip(), int(level))]
        return own + [inner for child in node.get("childIds", []) if child in by_id for inner in walk(by_id[child])]

    return [node for node in walk(nodes[0]) if node.role not in SILENT]


def keep(nodes: list[Node], name: str) -> None:
    keep_text("\n".join(f"{node.role}{node.level or ''}: {node.name}" for node in nodes if node.name or node.role in CONTROLS), name)


def complaints(nodes: list[Node]) -> list[str]:
    """Controls and pictures without a name, and headings that leave a level out."""
    before = ["", *accumulate((node.name for node in nodes), lambda last, name: name or last)]
    silent = [(node.role, place) for node, place in zip(nodes, before, strict=False) if not node.name]
    nameless = [f"{role} without a name after '{place}'" for role, place in silent if role in CONTROLS | {"image", "img"}]
    headings = [node for node in nodes if node.role == "heading"]
    jumps = [f"{after.name} (level {after.level}) after level {before.level}" for before, after in zip(headings, headings[1:], strict=False)
             if after.level > before.level + 1]  # fmt: skip
    return nameless + jumps


@pytest.fixture
def page(browser, server):  # noqa: F811
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(server, timeout=120_000)
    page.wait_for_selector("#image", timeout=120_000)
    yield page
    context.close()


def test_each_tab_says_what_its_controls_are(page):
    wrong = {}
    for name, button in TABS.items():
        open_tab(page, name)
        page.wait_for_selector(button, timeout=60_000)
        nodes = spoken(page)
        keep(nodes, f"reader-{name}")
        assert any(node.role == "tab" and node.name == name for node in nodes)
        wrong |= {name: complaints(nodes)} if complaints(nodes) else {}
    assert wrong == {}


def test_an_analysis_is_read_verdict_first(page, picture):
    upload(page, picture)
    complete(page)
    page.wait_for_selector("#saved-again >> text=copies", timeout=120_000)
    nodes = spoken(page)
    keep(nodes, "reader-Analyze")
    keep_screenshot(page, "Analyze-1440")
    names = [node.name for node in nodes if node.role == "heading"]
    named = [node.name for node in nodes if node.name]
    assert named[next(i for i, name in enumerate(named) if name.endswith("percent synthetic")) - 1] in HEADLINES.values()
    places = [next(i for i, name in enumerate(names) if name.startswith(words)) for words in HEADINGS]
    assert places == sorted(places)
    assert complaints(nodes) == []
