"""interpret/panels/uploads.py: where the folder lies, what in it is an upload, the sweep with a clock of our own, the budget."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paths import ROOT

from interpret.panels import uploads

NOW = time.time()
HASH = "ab" * 32


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    path = tmp_path / uploads.NAME
    path.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(path))
    return path


def put(path: Path, age: float = 0.0, size: int = 3) -> Path:
    """A file that was written `age` seconds before NOW."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (NOW - age, NOW - age))
    return path


# --- where it lies -------------------------------------------------------------------------------------------------


def chosen(**variables) -> str:
    """The folder after `import app` in a process of its own."""
    code = "import app, gradio.utils; print(gradio.utils.get_upload_folder())"
    kept = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept | variables, capture_output=True, text=True, timeout=120)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_folder_is_our_own_below_what_the_user_set(tmp_path):
    assert chosen(TMPDIR=str(tmp_path)) == str(tmp_path / uploads.NAME)
    below = chosen(GRADIO_TEMP_DIR=str(tmp_path / "set"))
    assert below == str(tmp_path / "set" / uploads.NAME)
    assert chosen(GRADIO_TEMP_DIR=below) == below  # a process that this one starts


def test_a_folder_that_a_stranger_could_have_laid_out_is_not_taken(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / uploads.NAME).symlink_to(elsewhere)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = uploads.choose_folder()
    assert path.parent == tmp_path and path.name == f"{uploads.NAME}-{os.getuid()}" and not path.is_symlink()
    assert path.stat().st_mode & 0o077 == 0


def test_a_budget_that_is_no_number_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-c", "import interpret.panels.uploads"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"CUESCOPE_UPLOADS_MB": "two"},
    )
    assert done.stderr == "CUESCOPE_UPLOADS_MB must be a whole number, not 'two'.\n"


# --- what is an upload ---------------------------------------------------------------------------------------------


def test_an_upload_is_known_by_its_place(folder):
    path = put(folder / HASH / "a picture.png")
    assert uploads.upload_at(str(path)) == str(path)


@pytest.mark.parametrize(
    "path",
    [
        None,
        5,
        {},
        "",
        "/etc/passwd",
        "app.py",
        "..",
        "\0",
        "{folder}",
        "{folder}/",
        "{folder}/" + HASH,
        "{folder}/missing/a.png",
        "{folder}/" + HASH + "/missing.png",
        "{folder}/" + HASH + "/../../outside.png",
        "{folder}/../outside.png",
        "{folder}-other/a.png",
        "{folder}/" + HASH + "/link.png",
        "{folder}/" + "cd" * 32 + "/outside.png",
        "{folder}/taken/" + HASH + "/report.html",
        "{folder}/deep_links/state.json",
        "{folder}/" + HASH + "/a.png\0.jpg",
        "{folder}/" + HASH + "/" + "a" * 5000,
    ],
)
def test_nothing_else_is_one(folder, path):
    outside = put(folder.parent / "outside.png")
    put(folder.parent / f"{uploads.NAME}-other" / "a.png")
    put(folder / HASH / "a.png")
    put(folder / "taken" / HASH / "report.html")
    put(folder / "deep_links" / "state.json")
    (folder / HASH / "link.png").symlink_to(outside)
    (folder / ("cd" * 32)).symlink_to(folder.parent)
    assert uploads.upload_at(path.replace("{folder}", str(folder)) if isinstance(path, str) else path) is None


def test_a_name_outside_is_refused_without_a_look_at_the_disk(folder, monkeypatch):
    monkeypatch.setattr(os.path, "realpath", lambda path: pytest.fail(f"looked at {path}"))
    assert uploads.upload_at("/etc/passwd") is None and uploads.upload_at(f"{folder}/../outside.png") is None


# --- sweep ---------------------------------------------------------------------------------------------------------


def test_old_files_go_wherever_they_lie_and_young_ones_stay(folder):
    places = [
        folder / HASH / "upload.png",
        folder / "taken" / HASH / "report.html",
        folder / "deep_links" / "x" / "state.json",
        folder / "tmpabc",
    ]
    for place in places:
        put(place, age=uploads.SIX_HOURS + 1)
        put(place.with_name("young"), age=uploads.SIX_HOURS - 1)
    uploads.sweep(NOW)
    assert not any(place.exists() for place in places) and all(place.with_name("young").exists() for place in places)


def test_folders_go_when_they_have_been_empty_as_long(folder):
    put(folder / HASH / "upload.png", age=uploads.SIX_HOURS + 1)
    uploads.sweep(NOW)
    assert (folder / HASH).is_dir()  # just emptied: an upload of the same content may be on its way
    uploads.sweep(time.time() + uploads.SIX_HOURS + 1)
    assert folder.is_dir() and not any(folder.iterdir())


def test_links_are_deleted_and_not_followed(folder, tmp_path):
    outside = put(tmp_path / "outside" / "old.png", age=uploads.SIX_HOURS + 1)
    for name, target in (("file", outside), ("folder", outside.parent), ("nowhere", tmp_path / "missing")):
        (folder / name).symlink_to(target)
        os.utime(folder / name, (NOW - 1e5, NOW - 1e5), follow_symlinks=False)
    uploads.sweep(NOW)
    assert outside.exists() and not any(folder.iterdir())


def test_a_file_in_use_stays_readable_and_what_another_server_took_is_no_error(folder, monkeypatch):
    path, other = put(folder / HASH / "a.png", 1e5), put(folder / HASH / "b.png", 1e5)
    unlink = os.unlink  # the second time it raises: the file is gone

    def two_at_once(name, *, dir_fd):
        for _ in range(2):
            unlink(name, dir_fd=dir_fd)

    with path.open("rb") as reader:
        monkeypatch.setattr(os, "unlink", two_at_once)
        uploads.sweep(NOW)
        assert len(reader.read()) == 3
    assert not path.exists() and not other.exists()


def test_the_page_s_own_files_count_as_new_at_every_sweep(folder, monkeypatch):
    example, stop = put(folder / HASH / "example.jpg", age=1e6), threading.Event()
    visitor = put(folder / HASH / "visitor.jpg", age=1e6)
    stop.set()
    uploads.keep_swept([str(example)], stop)
    assert example.exists() and not visitor.exists()


def test_results_beyond_twice_the_budget_go_earlier_but_not_at_once(folder, monkeypatch):
    monkeypatch.setattr(uploads, "BUDGET", uploads.Budget(10, 1000))
    ages = (5 * 3600, 2 * 3600, 700, 100)
    files = [put(folder / HASH / f"{age}.png", age=age, size=9) for age in ages]
    stop = threading.Event()
    stop.set()
    uploads.keep_swept([], stop)
    assert [path.exists() for path in files] == [False, False, True, True]  # 18 bytes: within twice the budget again


# --- budget --------------------------------------------------------------------------------------------------------


def test_the_budget_counts_what_lies_there_and_what_is_on_its_way(folder):
    put(folder / HASH / "a.png", size=60)
    budget = uploads.Budget(100, 10)
    assert budget.take(30) and not budget.take(30)
    budget.settle(30)
    assert budget.take(10) and not budget.take(1)


def test_the_number_of_files_counts_too(folder):
    for index in range(3):
        put(folder / HASH / f"{index}.png")
    assert uploads.Budget(1000, 4).take(1) and not uploads.Budget(1000, 3).take(1)


def test_old_files_make_room(folder):
    put(folder / HASH / "old.png", age=uploads.SIX_HOURS + 1, size=100)
    assert uploads.Budget(100, 10).take(100) and not (folder / HASH / "old.png").exists()
