"""The papers' tables: figures by hand, and the whole way from a miniature copy of each layout."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny import write_tiny

from detector.cli.main import main
from detector.evaluation.protocols import PROTOCOLS, PaperTable, best_accuracy, protocol_of


def test_figures_by_hand():
    labels = np.array([0, 0, 1, 1, 0, 0, 1])
    sources = np.array(["a", "a", "a", "a", "laion", "imagenet", "dalle"])
    logits = {"probe": np.array([-1.0, 2.0, 1.0, 3.0, -2.0, 5.0, 4.0])}
    table = PaperTable(("AP", "accuracy", "best accuracy", "AUROC", "F1"), {"dalle": "laion"})
    result = table.result(labels, sources, logits)["probe"]
    # a: falling order 3 (synthetic), 2 (real), 1 (synthetic), −1 (real): AP = (1 + 2/3) / 2
    expected = {"AP": 5 / 6, "accuracy": 0.75, "best accuracy": 0.75, "AUROC": 0.75, "F1": 0.8}
    assert result["sources"]["a"] == pytest.approx(expected)
    assert set(result["sources"]["dalle"].values()) == {1.0}  # laion's real image lies below it, imagenet's above counts for nothing
    assert result["mean"]["AP"] == pytest.approx((5 / 6 + 1) / 2)
    without_partner = PaperTable(("accuracy",), {"dalle": "coco"}).result(labels, sources, logits)["probe"]["sources"]["dalle"]
    assert without_partner["accuracy"] == pytest.approx(3 / 5)  # against all four real images, two of them above 0


@pytest.mark.parametrize(
    "source, partner",
    [("guided", "imagenet"), ("progan", "progan"), ("deepfake", "deepfake")]
    + [(name, "laion") for name in "ldm_200 ldm_200_cfg ldm_100 glide_100_27 glide_50_27 glide_100_10 dalle".split()],
)
def test_universalfakedetect_pairs_each_generator_with_its_own_real_images_and_diffusion_with_imagenet_or_laion(source, partner):
    real = ["progan", "deepfake", "imagenet", "laion"]
    sources, labels = np.array([*real, source]), np.array([0, 0, 0, 0, 1])
    (mask,) = PROTOCOLS["univfd"].run.args[0].masks(labels, sources).values()
    assert list(sources[mask & (labels == 0)]) == [partner]


def test_the_best_accuracy_in_hindsight_weighs_classes_as_they_come():
    assert best_accuracy(np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 3.0, 0.0])) == 0.75  # calling all real
    assert best_accuracy(np.array([0, 1, 1, 1]), np.array([9.0, 2.0, 3.0, 0.0])) == 0.75  # calling all synthetic


def test_an_unknown_protocol_gets_one_sentence(capsys):
    assert main(["evaluate", "--data", ".", "--protocol", "nope"]) == 1
    error = capsys.readouterr().err
    assert error == f"There is no protocol 'nope'; there are {', '.join(PROTOCOLS)}.\n"
    assert protocol_of("univfd") is PROTOCOLS["univfd"]


# --- miniature copies ------------------------------------------------------------------------------------------------


def lay(folder, *places):
    """A noise image at each place, no two alike."""
    for i, place in enumerate(places):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (66, 66, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / place)


def univfd(folder):
    """Test sets by generator, some by class below it, and diffusion sets without real images of their own."""
    own = (f"{g}/{c}/{i}.png" for g in ("progan/airplane", "progan/bird", "biggan") for c in ("0_real", "1_fake") for i in range(2))
    diffusion = ("imagenet/0_real/a.png", "laion/0_real/a.png", "guided/1_fake/a.png", "ldm_200/1_fake/a.png", "dalle/1_fake/a.png")
    lay(folder, *own, *diffusion)
    return ["univfd"], {"progan", "biggan", "guided", "ldm_200", "dalle"}


def genimage(folder):
    places = (
        f"{g}/x_{g}/{s}/{c}/{i}.png" for g in ("sdv14", "wukong") for s in ("train", "val") for c in ("nature", "ai") for i in range(2)
    )
    lay(folder, *places)
    return ["genimage"], {"sdv14", "wukong"}


def synris(folder):
    lay(folder, *(f"{g}/{i}.png" for g in ("laion", "kandinsky", "pixart") for i in range(2)))
    with open(folder / "list.csv", "w", newline="") as lines:
        rows = [[f"{g}/{i}.png", "real" if g == "laion" else "fake", g] for g in ("laion", "kandinsky", "pixart") for i in range(2)]
        csv.writer(lines).writerows([["where", "kind", "model"], *rows])
    return ["table", "--columns", "path=where,label=kind,source=model"], {"kandinsky", "pixart"}


def synthclic(folder):
    lay(
        folder, *(f"{s}/{c}/{i}.png" for s in ("train", "test") for c in ("real/clic", "synthetic/sd3", "synthetic/flux") for i in range(2))
    )
    return ["synthclic"], {"sd3", "flux"}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(write_tiny(tmp_path_factory.mktemp("backbone") / "tiny", decoder=False))


@pytest.mark.parametrize("layout", [univfd, genimage, synris, synthclic])
def test_prepare_and_evaluate_give_the_paper_s_table(layout, backbone, tmp_path, capsys):
    (prepare, *options), sources = layout(tmp_path / "set")
    place = tmp_path / "set" / "list.csv" if prepare == "table" else tmp_path / "set"
    assert main(["prepare", prepare, *options, "--from", str(place), "--out", str(tmp_path / "data")]) == 0
    out, name = tmp_path / "table.json", layout.__name__
    command = ["evaluate", "--data", str(tmp_path / "data"), "--backbone", backbone, "--cache", str(tmp_path / "cache")]
    assert main([*command, "--protocol", name, "--out", str(out)]) == 0
    stored, printed = json.loads(out.read_text()), capsys.readouterr().out
    (split,) = stored["splits"]
    assert split == ("all" if name in ("univfd", "synris") else "test") and stored["protocol"] == name
    for method in ("verdict", "physical", "residual"):
        figures = stored["splits"][split][method]
        assert set(figures["sources"]) == sources
        for measure, mean in figures["mean"].items():
            assert mean == pytest.approx(np.mean([figures["sources"][source][measure] for source in sources]))
            assert f"{split}: {measure}, per cent" in printed
