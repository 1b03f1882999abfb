"""interpret/attribution/explain.py and `explain` on the command line: files at the original's size, numbers by hand, bounded windows."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from small_models import Head, Red, picture
from tiny import write_tiny

from detector import Suite
from detector.analysis import Analysis
from detector.cli.main import main
from detector.clip.backbone import Backbone
from detector.data.images import load_photo
from interpret.attribution import cam, explain
from interpret.attribution.map_measures import Measures

NOTHING = Analysis("a.jpg", error="left out here")
FILES = (".npy", ".png", "-standing-out.npy", "-standing-out.png", ".json")
LAYERS = [cam.WINDOW_LAYER, "difference", "tokens", "stage1", "stage2", "stage3", cam.ERROR_LAYER, cam.ROLLOUT_LAYER]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


def suite_with(backbone, head) -> Suite:
    return Suite(backbone, {"sdd": head}, {}, None)


@pytest.fixture(scope="module")
def sdd_suite(tiny):
    """A suite whose only head is an sdd head with random weights."""
    from detector.methods.sdd.config import SddConfig
    from detector.methods.sdd.head import SddHead, normalisation
    from detector.methods.sdd.model import Sdd

    torch.manual_seed(0)
    model = Sdd(tiny.model.visual, SddConfig(bag=5, heads=2, rank=2), torch.randn(5, 32)).eval().requires_grad_(False)
    return suite_with(tiny, SddHead(model, normalisation(tiny), scale=2.0, bias=0.5))


RED = Measures({"difference": 2.0}, default="difference")


def red_explanation(pixels: np.ndarray, measures: Measures = RED, most=None) -> explain.Explanation:
    head = Head(Red())
    small, note = cam.reduced(pixels, head.size, most)
    return explain.Explanation(small, pixels.shape[:2], head.size, cam.heatmaps(head, small, ["difference"], most), measures, note)


# --- maps ----------------------------------------------------------------------------------------------------------


def test_every_layer_covers_the_image(sdd_suite):
    found = explain.explain(sdd_suite, load_photo(picture(70, 90)))
    assert list(found.maps) == LAYERS
    for own in found.maps.values():
        assert own.values.shape == (70, 90) and own.values.dtype == np.float32 and np.isfinite(own.values).all()
    head = sdd_suite.heads["sdd"]
    direct = cam.heatmaps(head, picture(70, 90))
    np.testing.assert_array_equal(found.maps["difference"].values, direct["difference"].values)


def test_a_mirrored_image_has_the_mirrored_map(sdd_suite):
    pixels = picture(64, 96, seed=3)
    own, mirrored = (explain.explain(sdd_suite, load_photo(p)) for p in (pixels, np.ascontiguousarray(pixels[:, ::-1])))
    for layer in LAYERS:
        values = own.maps[layer].values
        np.testing.assert_allclose(mirrored.maps[layer].values[:, ::-1], values, atol=1e-4 * max(1, np.abs(values).max()))


def test_a_blank_image_is_cold(sdd_suite):
    """On one scale for all images: a grey picture does not light up because its own extremes are near 0."""
    noisy, blank = (
        explain.explain(suite_with(sdd_suite.backbone, Head(Red())), load_photo(pixels), ["difference"])
        for pixels in (picture(), np.full((70, 90, 3), 128, np.uint8))
    )
    assert np.abs(noisy.maps["difference"].values).max() > 0.05
    np.testing.assert_allclose(blank.maps["difference"].values, 0, atol=1e-5)
    plain = explain.numbers(blank, "difference")
    assert plain["share"] == {"positive": 0, "negative": 0, "little": 1, "not_seen": 0}


def test_a_large_image_is_read_through_a_bounded_number_of_windows(sdd_suite):
    pixels, seen = picture(900, 1300), []
    found = explain.explain(
        sdd_suite, load_photo(pixels), ["difference"], window_limit=12, progress=lambda done, total: seen.append((done, total))
    )
    own = explain.windows(found)
    assert len(own["boxes"]) <= 12 and seen[-1] == (2 * len(own["boxes"]),) * 2
    assert found.shape == (900, 1300) and found.pixels.shape[0] < 300
    x0, y0, x1, y1 = np.array(own["boxes"]).T
    assert (x0.min(), y0.min()) == (0, 0) and x1.max() == pytest.approx(1300, abs=2) and y1.max() == pytest.approx(900, abs=2)
    assert "reduced" in own["pooling"] and "overlapping windows" in own["pooling"]
    assert "own resolution, 1300 × 900" not in own["pooling"]


def test_what_cannot_be_explained_says_so(sdd_suite, tiny):
    with pytest.raises(explain.ExplainError, match="no sdd head was trained"):
        explain.explain(Suite(tiny, {}, {}, None), load_photo(picture()))
    with pytest.raises(explain.ExplainError, match="no layer 'stage9'"):
        explain.explain(sdd_suite, load_photo(picture()), ["stage9"])


# --- numbers -------------------------------------------------------------------------------------------------------


def test_regions_by_hand():
    values = np.kron(np.arange(9.0).reshape(3, 3), np.ones((2, 2)))
    values[:2, :2] = np.nan
    values[2, 2] = np.nan  # one of four pixels of the middle
    assert explain.regions(values) == [[None, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_strongest_by_hand():
    values = np.array([[1.0, 1.0, -4.0], [1.0, 5.0, -4.0], [np.nan, np.nan, 7.0]])
    assert explain.strongest(values, 2) == [((2, 2, 3, 3), 7.0), ((0, 0, 2, 2), 2.0), ((2, 0, 3, 2), -4.0)]


def test_numbers_by_hand():
    values = np.full((60, 60), 0.1, np.float32)  # little, on a scale of 2
    values[:20, :20], values[40:, 40:], values[20:40, 20:40] = 3, -1, np.nan
    own = cam.Heatmap(values, "difference", ((0, 0, 60, 60),), np.array([0.5]), 0.5)
    found = explain.Explanation(np.zeros((60, 60, 3), np.uint8), (120, 240), 60, {"difference": own}, Measures({"difference": 2.0}))
    plain = explain.numbers(found, "difference")
    assert plain["share"] == pytest.approx({"positive": 1 / 8, "negative": 1 / 8, "little": 6 / 8, "not_seen": 1 / 9})
    assert plain["mean"] == pytest.approx({"positive": (3 + 6 * 0.1) / 8, "negative": -1 / 8})
    assert plain["strongest"]["positive"][0] == {"box": [0, 0, 80, 40], "mean": 3.0}  # in the original, 4 times as wide
    assert plain["strongest"]["negative"] == [{"box": [160, 80, 240, 120], "mean": -1.0}]
    assert plain["regions"][1][1] is None and plain["failed_tests"] is None and plain["scale_measured"]
    json.dumps(plain, allow_nan=False)


def test_rows_name_where_the_red_is():
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[64:, :32, 0] = 255
    table = explain.rows(red_explanation(pixels), "difference")
    assert ["bottom left", "+", "synthetic"] == [table[6][0], table[6][1][0], table[6][2]]
    assert any(row[0].startswith("x ") and row[2] == "synthetic" for row in table)
    assert any(row[0].endswith("of the area") and row[2] == "synthetic" for row in table)


def test_an_unsigned_map_has_no_side(sdd_suite):
    found = explain.explain(sdd_suite, load_photo(picture()), [cam.ERROR_LAYER])
    assert not any("real" in cell or "synthetic" in cell for row in explain.rows(found, cam.ERROR_LAYER) for cell in row)
    assert not explain.numbers(found, cam.ERROR_LAYER)["signed"]


def test_shrunk_keeps_the_map_for_the_page():
    found = red_explanation(picture(300, 200))
    small = explain.shrink(found, 100)
    assert small.pixels.shape == (100, 67, 3) and small.maps["difference"].values.shape == (100, 67)
    assert small.maps["difference"].values.dtype == np.float16
    assert explain.windows(small)["boxes"][-1] == pytest.approx(explain.windows(found)["boxes"][-1], abs=3)


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_have_the_originals_size(tmp_path):
    pixels = picture(500, 700)
    found = red_explanation(pixels, most=9)
    assert found.pixels.shape[0] < 200
    paths = explain.write(NOTHING, found, pixels, tmp_path / "deep" / "out")
    names = ["explanation.json", "sdd.npy", "sdd.png", "sdd-standing-out.npy", "sdd-standing-out.png", "sdd.json"]
    assert [path.name for path in paths] == names
    standing = np.load(paths[3])
    assert standing.shape == (500, 700) and np.corrcoef(standing.ravel(), np.load(paths[1]).ravel())[0, 1] == pytest.approx(1, abs=1e-3)
    outline = json.loads(paths[5].read_text())["features"][0]["geometry"]["coordinates"][0]
    assert outline[0] == outline[-1] and np.array(outline).max(0).tolist() <= [699, 499]
    values = np.load(paths[1])
    assert values.shape == (500, 700) and values.dtype == np.float32 and np.isfinite(values).all()
    assert cv2.imread(str(paths[2])).shape == (500, 700, 3)


def test_explanation_json_holds_the_analysis_and_the_maps(sdd_suite, tmp_path, picture):
    photo = load_photo(picture)
    analysis = sdd_suite.analyze(photo)
    explain.write(analysis, explain.explain(sdd_suite, photo), photo.pixels, tmp_path)
    record = json.loads((tmp_path / "explanation.json").read_text())
    assert record.items() >= json.loads(json.dumps(analysis.to_dict())).items()
    assert record["heatmaps"]["default"] == cam.WINDOW_LAYER and list(record["heatmaps"]["layers"]) == LAYERS
    windows = record["heatmaps"]["windows"]
    assert windows["logit"] == pytest.approx(np.mean(windows["logits"]))
    for layer in record["heatmaps"]["layers"].values():
        assert np.load(tmp_path / layer["values"]).shape == (photo.height, photo.width)
        assert all((tmp_path / layer[kind]).is_file() for kind in ("overlay", "outline"))
        assert np.load(tmp_path / layer["standing_out"]["values"]).shape == (photo.height, photo.width)
        assert "has not been measured" in layer["trust"]


# --- command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def with_head(monkeypatch, sdd_suite):
    monkeypatch.setattr(Suite, "load", classmethod(lambda cls, *rest, **more: sdd_suite))


def test_the_command_writes_everything(with_head, picture, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["explain", picture, "--out", str(out), "--caption", "a temple"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "explanation.json",
        *(f"{name}{kind}" for name in ("sdd", *LAYERS[1:]) for kind in FILES),
    }
    record = json.loads((out / "explanation.json").read_text())
    assert record["file"] == picture and (record["width"], record["height"]) == np.load(out / "sdd.npy").shape[::-1]
    assert capsys.readouterr().out.count("\n") == 1 + 5 * len(LAYERS)


def test_windows_can_be_limited(with_head, picture, tmp_path):
    for limit, check in (("4", lambda n: n <= 4), ("0", lambda n: n > 100)):
        assert main(["explain", picture, "--out", str(tmp_path), "--windows", limit]) == 0
        record = json.loads((tmp_path / "explanation.json").read_text())
        assert check(len(record["heatmaps"]["windows"]["boxes"]))


def test_a_rotated_photograph_is_mapped_upright(with_head, photographs, tmp_path):
    from PIL import Image

    picture, exif = Image.fromarray(photographs[0]), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert main(["explain", str(tmp_path / "turned.jpg"), "--out", str(tmp_path / "out"), "--windows", "9"]) == 0
    assert np.load(tmp_path / "out" / "sdd.npy").shape == (picture.width, picture.height)


@pytest.mark.parametrize("name, data", [("empty.jpg", b""), ("text.png", b"hello"), ("cut.jpg", None), ("missing.jpg", ...)])
def test_bad_input_gets_one_sentence(with_head, picture, tmp_path, capsys, name, data):
    path = tmp_path / name
    if data is not ...:
        path.write_bytes(open(picture, "rb").read()[:3000] if data is None else data)
    assert main(["explain", str(path), "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "Traceback" not in shown.err and name in shown.err
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder(with_head, picture, tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert main(["explain", picture, "--out", str(taken)]) == 1
    assert "--out needs a folder" in capsys.readouterr().err


def test_a_backbone_without_the_head_gets_the_rest_and_a_sentence(picture, tmp_path, capsys):
    folder = write_tiny(tmp_path / "clip")
    assert main(["explain", picture, "--out", str(tmp_path / "out"), "--backbone", str(folder)]) == 1
    shown = capsys.readouterr().err
    assert "no sdd head was trained on it" in shown and shown.count("\n") == 1
    record = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert record["error"] is None and "heatmaps" not in record and len(record["physical"]) == 15
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["explanation.json"]


@pytest.mark.slow
def test_24_megapixels_in_bounded_memory(sdd_suite, tmp_path):
    """Beyond the photograph itself: maps at full size one at a time, not all six at once (576 MB)."""
    import resource

    photo = load_photo(np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = explain.explain(sdd_suite, photo, [cam.WINDOW_LAYER, "stage1"], window_limit=16)
    explain.write(NOTHING, found, photo.pixels, tmp_path)
    assert np.load(tmp_path / "sdd.npy", mmap_mode="r").shape == (4000, 6000)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 400
    shutil.rmtree(tmp_path)
