"""interpret/panels/map_checks.py: what the map points at is blurred and scored again, and its files are the picture's size."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.data.images import load_photo
from interpret.attribution.cam import Heatmap
from interpret.attribution.explain import Explanation
from interpret.attribution.map_measures import Measures
from interpret.panels import map_checks
from interpret.panels.service import CurrentImage
from interpret.panels.stored_maps import MapKey, StoredMaps

CURRENT, MAPS = CurrentImage("key", "none.png"), MapKey("key", 36)


@pytest.fixture
def photo(monkeypatch, tmp_path):
    """A picture of 120 × 160 whose map, of half that size, points at its upper left quarter."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    values = np.random.default_rng(1).normal(0, 0.1, (60, 80)).astype(np.float16)
    values[5:25, 5:35] += 5
    maps = {"residual": Heatmap(values, "residual", (), np.zeros(1), 0.0)}
    explanation = Explanation(pixels[::2, ::2], pixels.shape[:2], 32, maps, Measures())
    stored = StoredMaps(explanation, {"residual": [["a", "b", "c"]]}, {"residual": (0, 0, 32, 32)}, "")
    monkeypatch.setattr(map_checks, "maps_of", lambda current, maps: stored if current and maps else None)
    monkeypatch.setattr(map_checks, "photo_of", lambda current: load_photo(pixels))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return load_photo(pixels)


def test_the_picture_without_the_region_is_scored_again(photo, monkeypatch):
    scored = []

    def analyze_photos(photos):
        scored.extend(photos)
        verdicts = (("synthetic", 2.0, 0.88), ("real", -1.0, 0.27))
        names = ("label", "logit", "probability")
        return [SimpleNamespace(verdict=SimpleNamespace(**dict(zip(names, verdict, strict=True)))) for verdict in verdicts]

    monkeypatch.setattr(map_checks, "suite_of", lambda current: SimpleNamespace(analyze_photos=analyze_photos))
    words, picture = map_checks.blur(CURRENT, MAPS, "residual")
    assert "turns from synthetic to real" in words and "+2.00 to -1.00" in words and "speaks for synthetic" in words
    changed = (scored[1].pixels != scored[0].pixels).any(2)
    assert changed[14:46, 14:66].mean() > 0.9 and not changed[70:].any() and not changed[:, 90:].any()
    assert (scored[0].pixels == photo.pixels).all() and picture.visible


def test_the_files_of_a_map_have_the_pictures_size_and_are_written_once(photo):
    files = map_checks.map_files(CURRENT, MAPS, "residual").files.value
    paths = sorted(Path(file["path"] if isinstance(file, dict) else file) for file in (f for f in files))
    endings = ["-standing-out.npy", "-standing-out.png", ".json", ".npy", ".png"]
    assert [path.name for path in paths] == [f"cuescope-residual{ending}" for ending in endings]
    values = np.load(paths[3])
    assert values.shape == (120, 160) and values.dtype == np.float32
    ring = np.array(json.loads(paths[2].read_text())["features"][0]["geometry"]["coordinates"][0])
    assert ring.min() >= 9 and ring.max(0).tolist() == pytest.approx([69, 49], abs=2)
    folders = set((Path(map_checks.folder()) / "taken").iterdir())
    map_checks.map_files(CURRENT, MAPS, "residual")
    assert set((Path(map_checks.folder()) / "taken").iterdir()) == folders and len(folders) == 1


def test_without_a_map_or_with_an_unknown_layer_there_is_a_sentence(photo):
    assert map_checks.blur(CURRENT, None)[0] == map_checks.NO_MAP == map_checks.faithfulness(CURRENT, None)[0]
    assert "There is no layer of that name" in map_checks.blur(CURRENT, MAPS, "<b>")[0]
    assert not map_checks.map_files(CURRENT, None).files.visible and map_checks.map_files(CURRENT, None)[0] == map_checks.NO_MAP
