"""detector/evaluation/studies/format.py: on images without any real difference, what is found is the compression that was added."""

import json

import numpy as np
import pytest
from PIL import Image

from detector.evaluation.studies.format import (
    CONDITIONS,
    format_reading,
    format_report,
    format_study,
    paired_gain,
    recompress_once,
    single_descriptors,
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Real and synthetic images from one and the same source of noise, saved as PNG."""
    folder, generator = tmp_path_factory.mktemp("same"), np.random.default_rng(0)
    lines = ["file,split,label,source"]
    for split, count in (("train", 60), ("test", 40)):
        for i in range(count):
            name = f"{split}{i}.png"
            noise = generator.normal(128, 30, (96, 96, 3)) + generator.normal(0, 20)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / name)
            lines.append(f"{name},{split},{i % 2},{'x' if i % 2 else 'camera'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return format_study(folder)


@pytest.mark.parametrize("scale", ["fixed", "native"])
def test_compression_alone_looks_like_skill(result, scale):
    matched, biased = (result["cells"][f"test|{scale}|{c}|{c}"]["auroc"] for c in CONDITIONS)
    assert biased > 0.9 and abs(matched - 0.5) < 0.25


def test_intervals_hold_their_auroc(result):
    assert all(cell["low"] <= cell["auroc"] <= cell["high"] for cell in result["cells"].values())


def test_gain_is_the_difference_of_the_two_auroc(result):
    for key, found in result["gain"].items():
        matched, apart = (result["cells"][f"{key}|{c}|{c}"]["auroc"] for c in CONDITIONS)
        assert found["gain"] == pytest.approx(apart - matched) and 0 < found["low"] <= found["gain"] <= found["high"]


def test_equal_logits_gain_nothing_in_any_draw():
    logits = np.random.default_rng(0).standard_normal(40)
    assert paired_gain(np.arange(40) % 2, np.column_stack([logits, logits]), 20) == {"gain": 0.0, "low": 0.0, "high": 0.0}


def test_report_shows_both_side_by_side(result):
    text = format_report(json.loads(json.dumps(result)))
    assert text.count("\n| test") == 4 and "compression, not generation" in format_reading(result)
    assert text.count(" → ") == 1 + 15 * 2


def test_a_descriptor_by_itself_by_hand():
    values = np.full((4, 15), 3.0)
    values[:, 0] = [1, 2, 3, 4]
    values[:, 1] = [4, np.nan, 3, 1]
    found = single_descriptors(values, np.array([0, 0, 1, 1]))
    assert found["descriptor"] == "laplacian_variance" and found["auroc"] == 1.0
    assert found["all"]["sobel_mean"] == 0.0 and found["all"]["saturation"] == 0.5


def test_recompression_depends_on_the_name_only():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(recompress_once(pixels, "a.jpg"), recompress_once(pixels, "a.jpg"))
    sizes = {np.abs(recompress_once(pixels, f"{i}.jpg").astype(int) - pixels).mean() for i in range(12)}
    assert len(sizes) > 5 and min(sizes) > 0
