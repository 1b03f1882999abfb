"""Every value that a visitor sends, checked before Gradio stores it or opens a file: its type, its length, whose file it is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block
from starlette.middleware import Middleware

from interpret.panels import address, limits, uploads

LONGEST_TEXT = 10_000  # characters, as `detector.clip.captioning.MAX_CHARACTERS`; also of all names in a list together
NO_UPLOAD = "The image is not among the uploads here, or no longer; upload it again."
FAILED = "This did not work; analyse the image again, and if that does not help, try another one."


class Page(gr.Blocks):
    """Gradio's page whose every action takes checked values only, and whose server holds our limits however it is launched."""

    def launch(self, *args: Any, **options: Any) -> Any:
        """As `gr.Blocks.launch`."""
        # captum imports it with the first heatmap; Gradio, which sets its backend in every action, would find it half imported then
        import matplotlib.pyplot  # noqa: F401

        return super().launch(*args, **options, app_kwargs={"middleware": [Middleware(limits.Limits)]})

    async def process_api(self, block_fn, inputs: list, *args, **options) -> dict:
        """As `gr.Blocks.process_api`, the way of every call; each failure gets one sentence, whatever went wrong."""
        action = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        try:
            checked = inputs if options.get("iterator") else await _checked(action.inputs, inputs)
            return await super().process_api(block_fn, checked, *args, **options)
        except gr.Error:
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("The action %s failed.", action.api_name)
            raise gr.Error(FAILED, print_exception=False) from error


def image_file(payload) -> str | None:
    """The `preprocess` of every image input: the uploaded file as it is, checked once more; Gradio would open and convert it."""
    return _file(payload.path) if payload else None


def image_files(payload) -> list[str]:
    """The `preprocess` of every input of several files, as `image_file`."""
    return [_file(file.path) for file in payload] if payload else []


def page_files(page: gr.Blocks) -> list[str]:
    """Files that the page itself put into the folder: the examples."""
    return [path for block in page.blocks.values() for path in block.keep_in_cache]


async def _checked(components: Sequence[Block], values: list) -> list:
    """The values, one for each component; gr.Error, one sentence, for the first that is none of its kind."""
    if len(values) < len(components):
        raise _refusal(f"This action takes {len(components)} values, not {len(values)}.")
    checked = []
    for component, value in zip(components, values, strict=False):
        if isinstance(component, gr.Image):
            value = await _upload(value)
        elif isinstance(component, gr.File):
            value = _uploads(value)
        elif isinstance(component, gr.State):
            value = None  # Gradio puts in what the session holds
        else:
            _check(component, value)
        checked.append(value)
    return checked


async def _upload(value: object) -> dict | None:
    """An image's payload cut down to the path of an upload. Gradio 6.31 checks only payloads that carry `meta`; all get it here."""
    if value is None:
        return None
    path = value.get("path") if isinstance(value, dict) else None
    if address.is_address(path):
        path = await address.fetch(path)
    return {"path": _file(path), "meta": {"_type": "gradio.FileData"}}


def _uploads(value: object) -> list[dict] | None:
    """The payload of several files, as `_upload`; no addresses."""
    if value is None:
        return None
    payloads = value if isinstance(value, list) else [value]
    if len(payloads) > limits.MAX_FILES:
        raise _refusal(limits.TOO_MUCH)
    paths = [payload.get("path") if isinstance(payload, dict) else None for payload in payloads]
    return [{"path": _file(path), "meta": {"_type": "gradio.FileData"}} for path in paths]


def _file(path: object) -> str:
    real = uploads.upload_at(path)
    if real is None:
        raise _refusal(NO_UPLOAD)
    return real


def _check(component: Block, value: object) -> None:
    fits, kind = _rule(component)
    if not fits(value):
        raise _refusal(f"“{getattr(component, 'label', None) or 'This value'}” must be {kind}.")


def _rule(component: Block) -> tuple[Callable[[object], bool], str]:
    """What a component's value must fulfil, and how that is said."""
    if isinstance(component, gr.Slider):
        low, high = component.minimum, component.maximum
        return (lambda value: _is_number(value) and low <= value <= high), f"a number from {low} to {high}"
    if isinstance(component, gr.Number):
        return (lambda value: value is None or _is_number(value)), "a number"
    if isinstance(component, gr.Dataset) or isinstance(component, gr.Radio) and isinstance(component.value, int):
        return (lambda value: _is_number(value) and value == int(value)), "a whole number"
    if isinstance(component, gr.CheckboxGroup) or getattr(component, "multiselect", False):
        return _is_names, f"a list of names, of at most {LONGEST_TEXT:,} characters together"
    return _is_text, f"text of at most {LONGEST_TEXT:,} characters"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_names(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and sum(map(len, value)) + len(value) <= LONGEST_TEXT


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)
