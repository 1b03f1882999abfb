"""The shortcut audit: what facts of files tell of the classes, on folders made so that the answer is known."""

import cv2
import numpy as np
import pytest
from tiny import write_tiny

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, Example
from detector.data.images import load_photo
from detector.evaluation import audit as auditing
from detector.evaluation.audit_facts import NAMES, Facts, measure_facts, pixel_facts
from detector.evaluation.audit_tables import audit_report
from detector.evaluation.fact_models import source_folds

EACH = 60  # images of a class


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("backbone"))))


def data_folder(folder, quality=(80, 80), width=(64, 64)):
    """Smooth random pictures, two sources of a class, alike but for quality and width of (real, synthetic)."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("real", "synthetic")):
        for i in range(EACH):
            pixels = cv2.resize(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8), (width[label], 64), interpolation=cv2.INTER_CUBIC)
            path = folder / name / f"{name}-{i % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality[label]])
    return folder


def named(result):
    """The facts that the warnings name."""
    return [name for name in NAMES if any(f"The fact '{name}' alone" in sentence for sentence in result["warnings"])]


def test_classes_that_differ_in_jpeg_quality_only(tmp_path, backbone):
    result = auditing.audit_folders([data_folder(tmp_path, quality=(95, 60))], backbone)
    assert result["facts"]["JPEG quality"]["median"] == [95, 60] and result["facts"]["JPEG quality"]["auroc"] == 0
    assert auditing.separation(result["facts"]["JPEG quality"]) == 1
    assert "JPEG quality" in named(result) and not {"width", "aspect", "brightness", "mean red"} & set(named(result))
    for plan in ("images", "sources"):
        assert result["sets"]["compression"][plan]["logistic"]["auroc"] > 0.99
        assert result["sets"]["size"][plan]["boosting"]["auroc"] == 0.5  # all of one size
    assert min(auroc for row in result["pairs"].values() for auroc in row.values()) > 0.99
    assert "cannot be matched" in result["warnings"][-1] and result["matched"]["after"]["logistic"]["auroc"] > 0.99
    assert "**The fact 'JPEG quality' alone tells the classes apart (AUROC 1.00)" in audit_report(result)


def test_classes_that_differ_in_size_only(tmp_path, backbone):
    result = auditing.audit_folders([data_folder(tmp_path, width=(64, 96))], backbone)
    assert result["facts"]["width"]["auroc"] == result["facts"]["long side"]["auroc"] == result["facts"]["aspect"]["auroc"] == 1
    assert {"width", "long side", "aspect"} <= set(named(result)) and not {"height", "JPEG quality", "is JPEG"} & set(named(result))
    assert result["sets"]["size"]["images"]["boosting"]["auroc"] > 0.99


def test_classes_of_equal_facts_get_no_warning(tmp_path, backbone):
    result = auditing.audit_folders([data_folder(tmp_path)], backbone)
    assert result["warnings"] == [] and result["images"] == [EACH, EACH] and result["sources"] == [2, 2]
    for classifier in ("logistic", "boosting"):
        low, high = result["sets"]["all"]["images"][classifier]["auroc_95"]
        assert low < 0.5 < high
    assert all(0.3 < fact["auroc"] < 0.7 for fact in result["facts"].values())
    assert "alone tells" not in audit_report(result)


def made_up(column, labels, sources):
    """Facts of noise in which `brightness` is `column`."""
    values = np.random.default_rng(0).uniform(1, 2, (len(labels), len(NAMES)))
    values[:, NAMES.index("brightness")] = column
    return Facts(values, labels, sources)


def test_what_only_names_the_source_does_not_carry_over_to_other_sources():
    sources = np.repeat(np.arange(20), 30)
    labels = sources % 2
    facts = made_up(sources + 0.0, labels, sources.astype(str))
    skill = auditing.fact_set(facts, ["brightness"])
    assert skill["images"]["boosting"]["auroc"] > 0.99 > 0.75 > skill["sources"]["boosting"]["auroc"]


def test_a_fact_of_equal_median_and_other_spread_is_named():
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    facts = made_up(generator.normal(size=400) * np.where(labels == 1, 0.05, 1), labels, labels.astype(str))
    fact = auditing.single_fact(facts, "brightness")
    assert 0.4 < fact["auroc"] < 0.6 and fact["any_shape"] > 0.9
    assert "'brightness' alone" in auditing.fact_warnings({"brightness": fact})[0]


def test_a_fact_that_one_class_lacks_is_named():
    labels = np.arange(100) % 2
    facts = made_up(np.where(labels == 1, np.nan, 80.0), labels, labels.astype(str))
    fact = auditing.single_fact(facts, "brightness")
    assert fact["median"] == [80, None] and "auroc" not in fact and fact["any_shape"] > 0.99
    nowhere = auditing.single_fact(made_up(np.nan, labels, labels.astype(str)), "brightness")
    assert nowhere == {"median": [None, None], "any_shape": 0.5}


def test_the_worst_pairs_are_the_pairs_that_differ():
    sources = np.repeat(["camera", "phone", "flux", "sdxl", "rare"], [40, 40, 40, 40, 5])
    labels = np.isin(sources, ["flux", "sdxl", "rare"]).astype(int)
    column = np.where(sources == "flux", 5.0, 0.0) + np.random.default_rng(1).normal(size=len(sources)) * 0.1
    pairs = auditing.pair_matrix(made_up(column, labels, sources))
    assert pairs["camera"]["flux"] > 0.99 and pairs["phone"]["flux"] > 0.99 and pairs["camera"]["rare"] is None
    assert {pair[1] for pair in auditing.worst_pairs(pairs)[:2]} == {"flux"} and len(auditing.worst_pairs(pairs)) == 4


def test_a_source_lies_in_one_fold_and_every_fold_has_both_classes():
    sources = np.repeat(["a", "b", "c", "d", "e", "f", "both"], [50, 20, 30, 10, 40, 25, 30])
    labels = np.isin(sources, ["d", "e", "f"]).astype(int)
    labels[-10:] = 1  # "both" holds images of either class
    folds = source_folds(labels, sources)
    assert all(len(set(folds[sources == source])) == 1 for source in set(sources))
    assert len(set(folds)) == 4 and all(set(labels[folds == fold]) == {0, 1} for fold in set(folds))
    assert source_folds(np.array([0, 0, 1, 1]), np.array(["a", "b", "flux", "flux"])) is None


def test_pixel_facts_of_a_file_whose_facts_are_known(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :, 2] = 255  # red, in OpenCV's order
    settings = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    for name, options in (("a.jpg", settings), ("a.png", [])):
        cv2.imwrite(str(tmp_path / name), pixels, options)
    jpeg, png = (dict(zip(NAMES, pixel_facts(load_photo(tmp_path / name)), strict=False)) for name in ("a.jpg", "a.png"))
    assert jpeg["width"] == 40 and jpeg["height"] == 20 and jpeg["long side"] == 40 and jpeg["aspect"] == jpeg["elongation"] == 2
    assert jpeg["JPEG quality"] == 80 and jpeg["chroma samples"] == 0.25 and (jpeg["is JPEG"], jpeg["is PNG"]) == (1, 0)
    assert jpeg["bytes per pixel"] == (tmp_path / "a.jpg").stat().st_size / 800
    assert np.isnan([png["JPEG quality"], png["chroma samples"]]).all() and png["is PNG"] == 1
    assert png["mean red"] == 1 and png["mean green"] == 0 and png["saturation"] == 1
    assert [png["sharpness"], png["contrast"]] == pytest.approx([0, 0], abs=1e-6)
    assert png["brightness"] == pytest.approx(0.299, abs=0.002)


def test_content_words_are_cosines_about_their_mean(tmp_path, backbone):
    folder = data_folder(tmp_path)
    facts = measure_facts([Example(path, 0, "s") for path in sorted(folder.rglob("*.jpg"))[:40]], backbone)
    content = facts.values[:, [name.startswith("content") for name in NAMES]]
    assert facts.values.shape == (40, len(NAMES)) and np.allclose(content.sum(axis=1), 0, atol=1e-5) and content.std(axis=0).min() > 0


def test_an_unreadable_image_and_too_few_images_get_one_sentence(tmp_path, backbone):
    broken = data_folder(tmp_path / "train") / "real" / "real-0" / "0.jpg"
    with pytest.raises(DataError, match=r"The split 'val' holds 0 real and 0 synthetic images.*\(there are: train\)\.$"):
        auditing.audit_folders([tmp_path], backbone, "val")
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"unusable image, '.*0\.jpg': .*is not an image.*") as caught:
        auditing.audit_folders([tmp_path], backbone)
    assert "\n" not in str(caught.value)
