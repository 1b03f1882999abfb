"""The README's pictures: an analysis, and a short animation of What if, of a picture that our own code drew.

    python tests/e2e/readme_pictures.py [URL] [--chromium PROGRAM]

Needs the page at URL (default http://127.0.0.1:7860), playwright and Chromium. Writes docs/pictures/analysis.webp and what-if.webp.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "assets" / "models" / "embedded" / "heads" / "pictures" / "sphere.png"  # of interpret/render/drawings.py
FOLDER = ROOT / "docs" / "pictures"
QUALITIES = (100, 80, 60, 40, 20, 10)
MILLISECONDS = 1200  # of one frame


def screenshot(page: Page, height: int) -> Image.Image:
    """The upper part of the page, 1,000 pixels wide."""
    width = page.viewport_size["width"]
    picture = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)))
    return picture.convert("RGB").resize((1000, round(1000 * picture.height / picture.width)), Image.Resampling.LANCZOS)


def analysis(page: Page) -> None:
    page.locator("#image input[type=file]").set_input_files(PICTURE)
    page.wait_for_selector("#progress >> text=Complete: ", timeout=120_000)
    page.wait_for_function("!document.querySelector('#saved-again').innerText.includes('tried')", timeout=120_000)
    page.wait_for_timeout(8000)  # until the map lies over the image
    screenshot(page, 900).save(FOLDER / "analysis.webp", quality=80)


def what_if(page: Page) -> None:
    """A frame for each JPEG quality."""
    page.get_by_role("tab", name="What if").click()
    page.locator("#whatif-image input[type=file]").set_input_files(PICTURE)
    page.wait_for_selector("#whatif-card .card", timeout=120_000)
    page.wait_for_timeout(2000)
    frames = []
    for quality in QUALITIES:
        number = page.get_by_label("number input for JPEG quality", exact=False)
        number.fill(str(quality))
        number.blur()
        page.wait_for_timeout(4000)
        frames.append(screenshot(page, 1000))
    frames[0].save(FOLDER / "what-if.webp", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, quality=60, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:7860")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"]).new_page(
            viewport={"width": 1280, "height": 900}
        )
        page.goto(arguments.url)
        page.wait_for_selector("#image input[type=file]", state="attached", timeout=60_000)
        analysis(page)
        what_if(page)


if __name__ == "__main__":
    main()
