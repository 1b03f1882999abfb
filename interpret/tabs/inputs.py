"""Many images as the input of a tab: uploads, archives, and folders that the operator of the server allows."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from detector.data.collections import ImageFile, allowed_folders, folder_files, read_collection
from detector.data.datasets import DataError
from interpret.panels.components import accept_any
from interpret.panels.gate import image_files

FILE_TYPES = ["image", ".zip"]


def many_files(label: str, elem_id: str) -> gr.File:
    """A place for image files and zip archives."""
    files = gr.File(label=label, file_count="multiple", file_types=FILE_TYPES, height=150, elem_id=elem_id)
    setattr(files, "preprocess", image_files)  # noqa: B010 (a type checker refuses to replace a method)
    return files


def folder_choice(label: str) -> gr.Dropdown:
    """A list of the folders in CUESCOPE_FOLDERS by name; hidden where there are none."""
    names = list(allowed_folders())
    return accept_any(gr.Dropdown([("none", ""), *[(name, name) for name in names]], value="", label=label, visible=bool(names)))


def files_of_folder(name: str) -> list[ImageFile]:
    """The images of an allowed folder. DataError, one sentence that repeats nothing of a name that is none."""
    folders = allowed_folders()
    if name not in folders:
        raise DataError("No folder of that name is open to visitors; choose one of the list, or upload images.")
    return folder_files(folders[name])


def files_of(uploads: list[str] | None, folder: str) -> list[ImageFile]:
    """The images of uploads, archives among them, and of an allowed folder. DataError, one sentence, where there are none."""
    chosen = files_of_folder(folder) if folder else []
    if chosen and not uploads:
        return chosen
    return [*read_collection([Path(path) for path in uploads or []]), *chosen]
