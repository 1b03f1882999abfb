"""What the browser tests leave to be looked at: screenshots and what a screen reader is given, in `out/browser/` (not committed)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from paths import ROOT

if TYPE_CHECKING:  # tests of endpoints run without it
    from playwright.sync_api import Page

FOLDER = ROOT / "out" / "browser"


def path_of(name: str, suffix: str) -> Path:
    """A file for that name; letters, digits and dashes stay of it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER / f"{re.sub(r'[^A-Za-z0-9-]+', '-', name)}{suffix}"


def keep_screenshot(page: Page, name: str) -> None:
    """The whole page as PNG; a file of that name is replaced."""
    page.screenshot(path=str(path_of(name, ".png")), full_page=True)


def keep_text(text: str, name: str) -> None:
    """A text; a file of that name is replaced."""
    path_of(name, ".txt").write_text(text + "\n", encoding="utf-8")
