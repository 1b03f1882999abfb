"""The project as it is installed: what pyproject.toml requires, what the wheel holds, and that it works away from the checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PARTS = ["pyproject.toml", "setup.py", "LICENSE", "detector", "interpret", "assets"]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def required(file: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return sorted(line for line in lines if line and not line.startswith("-r "))


def test_requirements_are_those_of_the_project():
    extras = PROJECT["optional-dependencies"]
    assert required("requirements.txt") == sorted(PROJECT["dependencies"] + extras["app"])
    assert required("requirements-dev.txt") == sorted(extras["dev"])
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, which also holds example pictures as a page in use has them."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "examples"))
        else:
            shutil.copy(ROOT / name, source)
    (source / "assets" / "examples").mkdir()
    (source / "assets" / "examples" / "picture.jpg").write_bytes(b"not to be shipped")
    done = subprocess.run([sys.executable, "-c", BUILD, str(target)], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return path


def files_below(*folders: str) -> set[str]:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.slow
def test_the_wheel_holds_all_code_and_assets_but_no_examples(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assets = {name.replace("assets/", "cuescope_assets/", 1) for name in files_below("assets/models", "assets/vocabulary")}
    assert names == files_below("detector", "interpret") | assets


@pytest.mark.slow
def test_the_installed_command_reads_the_installed_weights(wheel, picture, tmp_path):
    from importlib.metadata import EntryPoint

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (script,) = PROJECT["scripts"].items()
    entry = EntryPoint(*script, "console_scripts")
    code = f"import sys, detector.assets as a; print(a.ASSETS); from {entry.module} import {entry.attr}; sys.exit({entry.attr}())"
    away = tmp_path / "away"
    away.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, "score", picture],
        cwd=away,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    folder, record = done.stdout.splitlines()
    assert folder == str(tmp_path / "cuescope_assets") and '"error": null' in record and '"verdict": {' in record
