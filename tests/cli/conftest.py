"""A folder of images for the commands."""

import shutil

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture):
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(picture, folder / "b.jpg")
    shutil.copy(picture, folder / "a.jpg")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("left alone")
    return folder
