"""Files to take away of a batch: CSV, JSONL, and Parquet where its library is installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

import gradio as gr

from interpret.panels.downloads import HAND_OVER
from interpret.panels.uploads import folder
from interpret.tabs.jobs import batch_of

PARQUET = find_spec("pyarrow") is not None


def build_exports(key: gr.Textbox) -> None:
    """One button for each kind of file. key: of the batch."""
    kinds = {"csv": ("CSV", batch_csv), "jsonl": ("JSONL", batch_jsonl), "parquet": ("Parquet", batch_parquet)}
    with gr.Row():
        for kind, (name, make) in kinds.items():
            if kind == "parquet" and not PARQUET:
                continue
            button = gr.DownloadButton(f"Download {name}", size="sm", elem_id=f"batch-{kind}")
            file = gr.File(label=name, visible=False)
            event = button.click(make, key, file, api_name=f"batch_{kind}", concurrency_id="panels", show_progress="hidden")
            event.success(None, file, None, js=HAND_OVER, show_progress="hidden")


def batch_csv(key: str) -> str:
    """The table of a batch as CSV.

    Args:
        key: the key that /batch_start gave.

    Returns:
        The file.
    """
    from interpret.batch import to_csv

    return _file(to_csv(batch_of(key)), "csv")


def batch_jsonl(key: str) -> str:
    """The table of a batch as JSON, one object a line.

    Args:
        key: the key that /batch_start gave.

    Returns:
        The file.
    """
    from interpret.batch import to_jsonl

    return _file(to_jsonl(batch_of(key)), "jsonl")


def batch_parquet(key: str) -> str:
    """The table of a batch as Parquet.

    Args:
        key: the key that /batch_start gave.

    Returns:
        The file.
    """
    from interpret.batch import to_parquet

    return _file(to_parquet(batch_of(key)), "parquet")


def _file(data: bytes, ending: str) -> str:
    from gradio.processing_utils import save_bytes_to_cache

    return save_bytes_to_cache(data, f"cuescope-batch.{ending}", os.path.join(folder(), "taken"))
