"""The whole product on a CUDA device that is simulated (see fake_device.py): nothing mixes devices, and the numbers are the CPU's."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fake_device import CUDA, CudaTensor, fake_cuda
from test_pretrain import SMALL, pairs  # noqa: F401  (fixture)
from test_released import heads_for
from test_studies import Words, table
from tiny import write_tiny

from detector import Suite
from detector.__main__ import main
from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import user_caption
from detector.data.datasets import read_dataset, select
from detector.data.images import load_photo
from detector.data.perturbations import VARIANTS
from detector.methods.base import Evidence
from detector.methods.concepts.train import fit_concepts
from detector.methods.item import alignment as item
from detector.methods.item.train import ItemRecipe, fit_item
from detector.methods.orthogonal.train import fit_linear_probe, fit_orthogonal
from detector.methods.physical_clip import train as physical_clip
from detector.methods.registry import METHODS
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.model import Sdd
from detector.methods.sdd.recipe import SddRecipe
from detector.methods.sdd.train import SddRun, fit_sdd
from detector.training import features as train

pytestmark = pytest.mark.slow

CONFIG = SddConfig(bag=6, heads=2, rank=2, inputs="local", covariance=True)


@pytest.fixture
def card():
    with fake_cuda() as device:
        yield device


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"), decoder=False)


@pytest.fixture(scope="module")
def pixels():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, size, dtype=np.uint8) for size in ((40, 50, 3), (64, 40, 3), (33, 33, 3))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Real: soft noise. Synthetic: the same with a faint checkerboard."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    grid = (np.indices((96, 96)).sum(0) % 2 * 24)[..., None]
    for split, count in (("train", 16), ("val", 12), ("test", 8)):
        for index in range(count):
            image = cv2.GaussianBlur(generator.integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 2) + index % 2 * grid
            path = folder / split / ("synthetic/grid" if index % 2 else "real") / f"{split}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))
    return folder


def close(first: dict, second: dict, tolerance: float = 1e-4) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], atol=tolerance, err_msg=str(name))


# --- the simulation itself -----------------------------------------------------------------------------------------


def test_the_simulated_device_refuses_what_a_real_one_refuses(card):
    here, there = torch.arange(3.0, device="cuda"), torch.arange(3.0)
    assert isinstance(here, CudaTensor) and here.device == CUDA and here.is_cuda and not there.is_cuda
    for mixed in (lambda: here + there, lambda: torch.cat([here, there]), lambda: there[here.long()], lambda: here @ there):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    for read in (here.numpy, lambda: np.asarray(here)):
        with pytest.raises(TypeError, match="Use Tensor.cpu"):
            read()
    assert here.cpu().numpy().tolist() == [0, 1, 2] and here[there.long()].sum().item() == 3
    assert (here + torch.tensor(1.0)).tolist() == [1, 2, 3]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: torch.zeros(1, device="cuda").is_cuda).result()


# --- scores, maps and the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_picture(tmp_path_factory, photographs):
    path = tmp_path_factory.mktemp("small") / "temple.png"
    cv2.imwrite(str(path), cv2.resize(photographs[0], (190, 160), interpolation=cv2.INTER_AREA)[..., ::-1])
    return str(path)


def test_scores_and_maps_are_those_of_the_processor_even_without_float64(suite, small_picture):
    from interpret.attribution import explain

    photo = load_photo(small_picture)

    def everything(suite):
        found = explain.explain(suite, photo, window_limit=2)
        return suite.analyze(photo).to_dict(), {layer: own.values for layer, own in found.maps.items()}

    record, maps = everything(suite)
    with fake_cuda(float64=False):
        loaded = Suite.load(device="cuda")
        assert loaded.backbone.device.type == "cuda" and loaded.heads["sdd"].model.device == CUDA
        record_there, maps_there = everything(loaded)
    assert set(record["detectors"]) == set(METHODS)
    close({m: s["logit"] for m, s in record["detectors"].items()}, {m: s["logit"] for m, s in record_there["detectors"].items()})
    assert record["verdict"]["logit"] == pytest.approx(record_there["verdict"]["logit"], abs=1e-4)
    assert record["item"]["caption"] == record_there["item"]["caption"]
    close(maps, maps_there)


def test_every_panel_and_every_action_of_the_page(small_picture, monkeypatch, card):
    import gradio as gr

    from interpret.panels import item as caption
    from interpret.panels import probe, service, stability, story
    from interpret.panels import sdd as heatmap
    from interpret.panels.components import outputs

    monkeypatch.setattr(service, "_suites", {})
    record, seen = service.analyze(small_picture)
    suite = service.suite_of(seen)
    assert record["error"] is None and suite.backbone.device.type == "cuda"
    with gr.Blocks():
        places = story.build_story()
    shown = service.PanelSource(seen, suite, load_photo(small_picture))
    for panel, place in zip(story.PANELS, places, strict=True):
        assert len(panel.show(shown)) == len(outputs(place.components, panel.values))
    edited = caption.caption(seen, None, "a temple and a tree", "roof")
    assert isinstance(edited[-1], caption.Wording) and caption.first_caption(seen)[-1]
    assert caption.caption_view(seen, edited[-1], 1) is not None
    assert "nearer" in probe.probe(seen, "soft evening light", "harsh midday sun")[0]
    assert "verdict" in probe.switch(seen, ["unit 1"], []).lower()
    monkeypatch.setattr("interpret.concepts.DROP_COUNTS", (0, 1, 2))
    for head in probe.HEADS:
        assert "AUROC" in probe.drop(seen, head)[0]
    kept = heatmap.heatmap(seen, "difference", progress=lambda *a, **k: None)[0]
    assert "beats" in heatmap.faithfulness(seen, kept, "difference")[0]
    monkeypatch.setattr("detector.data.perturbations.VARIANTS", VARIANTS[:2])
    assert "verdict" in stability.try_changes(seen)[0].lower()


# --- training ------------------------------------------------------------------------------------------------------


def test_all_heads_train_resume_evaluate_and_score_alike_on_both_devices(folder, data, tmp_path, card, capsys):
    heads = tmp_path / "tiny"
    heads.symlink_to(folder)
    common = ["--data", str(data), "--backbone", str(heads), "--device", "cuda", "--cache", str(tmp_path / "cache")]
    trained = ["train", "all", *common, "--copies", "1", "--out", str(folder / "heads"), "--checkpoints", str(tmp_path / "sdd")]
    assert main([*trained, "--epochs", "1"]) == 0
    assert main(["train", "sdd", *trained[2:], "--epochs", "2", "--resume"]) == 0
    assert len(torch.load(next((tmp_path / "sdd").glob("*-0.pt")), weights_only=True)["state"]["log"]) == 2
    main(["train", "all", *trained[2:], "--epochs", "2", "--resume"])
    assert main(["evaluate", *common, "--out", str(tmp_path / "out.json")]) == 0
    assert set(json.loads((tmp_path / "out.json").read_text())["splits"]["test"]) == {*METHODS, "verdict"}
    there, here = (Suite.load(str(heads), device) for device in ("cuda", "cpu"))
    files = sorted((data / "test").rglob("*.png"))[:3]
    for first, second in zip(there.analyze_files(files), here.analyze_files(files), strict=True):
        close({m: s["logit"] for m, s in first.detectors.items()}, {m: s["logit"] for m, s in second.detectors.items()}, 1e-3)


def labelled(count: int, seed: int, width: int = 12):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % 2).float()
    features = torch.randn(count, width, generator=generator)
    features[:, 0] += labels
    return features, labels


def alignment_of(count: int, seed: int, width: int = 12):
    unit = lambda *shape: torch.nn.functional.normalize(labelled(int(np.prod(shape)), seed + len(shape))[0].view(*shape, width), dim=-1)  # noqa: E731
    captions = unit(count).clone()
    captions[0] = torch.nan
    return item.Alignment(unit(count), captions, unit(count, 5), unit(count, 5), torch.arange(count) % 6, ("a dog",) * count)


FITS = {
    "linear_probe": lambda move, train_, val: fit_linear_probe(move(train_), move(val)),
    "orthogonal": lambda move, train_, val: fit_orthogonal(move(train_), move(val), units=3),
    "concepts": lambda move, train_, val: fit_concepts(move(train_), move(val), labelled(5, 9)[0]),
    "item": lambda move, train_, val: fit_item(
        (move([alignment_of(40, 0)])[0], train_[1]), (move([alignment_of(20, 1)])[0], val[1]), recipe=ItemRecipe(hidden=8, epochs=2)
    ),
    "physical_clip": lambda move, train_, val: physical_clip.fit_physical_clip(
        *((evidence(move(part)[0]), part[1].numpy()) for part in (train_, val)),
        physical_clip.Texts(np.stack([np.zeros(15), np.ones(15)])),
        scale=20.0,
        recipe=physical_clip.PhysicalClipRecipe(hidden=8, epochs=2),
    ),
}


def evidence(projected: torch.Tensor) -> Evidence:
    count = len(projected)
    text = torch.nn.functional.normalize(labelled(count, 5)[0], dim=1)
    described = np.random.default_rng(0).random((count, 15))
    return Evidence(ClipFeatures(projected, projected, None), described, described, physical_text=text)


@pytest.mark.parametrize("method", FITS)
def test_a_head_trained_on_the_device_is_the_processor_s_and_lies_on_the_processor(method, card):
    parts = labelled(40, 0), labelled(20, 1)
    here = FITS[method](lambda part: part, *parts).tensors()
    there = FITS[method](lambda part: [tensor.to(card) for tensor in part], *parts).tensors()
    assert not any(isinstance(value, CudaTensor) for value in there.values())
    close({n: v.detach() for n, v in here.items()}, {n: v.detach() for n, v in there.items()})


def test_sdd_trains_on_the_device_as_on_the_processor(folder, data, tmp_path, card, monkeypatch):
    monkeypatch.setattr("detector.devices.has_matrix_units", lambda: False)  # the simulated card computes in float32
    examples = read_dataset(data)
    parts = select(examples, "train"), select(examples, "val")
    recipe = SddRecipe(epochs=1, batch=8)
    fitted = {
        device: fit_sdd(
            *parts,
            Backbone.load(str(folder), device),
            SddRun(CONFIG, recipe, checkpoint=tmp_path / f"{device}.pt"),
        )
        for device in ("cpu", "cuda")
    }
    close(*({n: v.float() for n, v in fitted[device].head.tensors().items()} for device in ("cpu", "cuda")), 2e-3)
    run = SddRun(CONFIG, replace(recipe, epochs=2), checkpoint=tmp_path / "cuda.pt", resume=True)
    resumed = fit_sdd(*parts, Backbone.load(str(folder), "cuda"), run)
    assert len(resumed.log) == 2


def test_studies(folder, data, tmp_path, card, monkeypatch):
    from detector.evaluation.studies import STUDIES, base, cross, physical_clip, units
    from detector.evaluation.studies import item as item_module

    monkeypatch.setattr(units, "UNITS", (2,))
    words = Words()
    words.device = card
    strength = {"easy": 4.0, "hard": 0.0}
    corpus = base.Corpus("planted", table(80, 0, strength), table(40, 1, strength), {"test": table(40, 2, strength)})
    probed, fit = [], units.fit_linear_probe
    monkeypatch.setattr(units, "fit_linear_probe", lambda train, val, **more: probed.append(train[0].device) or fit(train, val, **more))
    for name in ("units", "concepts"):
        assert STUDIES[name].run([corpus], words, 2)["rows"]
    assert set(probed) == {CUDA}
    for method in ("linear probe", "orthogonal", "concepts"):
        assert 0 <= base.scores(cross.cross_fitters(words)[method](corpus, 0), corpus.tests["test"])["auroc"] <= 1
    backbone = Backbone.load(str(folder), "cuda")
    tables = base.captioned_tables([base.load_corpus(backbone, data, None)], backbone)
    assert item_module.item_study(tables, backbone, 1)["cells"] and physical_clip.physical_clip_study(tables, backbone, 1)["cells"]


def test_what_heatmaps_are_worth(folder, pixels, card, monkeypatch):
    from interpret.attribution import bench, cam
    from interpret.attribution import map_measures as mapcard
    from interpret.attribution.exact import MapHeads
    from interpret.attribution.faithfulness import centre_window, curves_of_window, randomised, with_model

    monkeypatch.setattr(bench, "THREADS", 1)  # the fake card is known to its own thread alone

    def measured(device):
        backbone = Backbone.load(str(folder), device)
        torch.manual_seed(0)
        head = SddHead(Sdd(backbone.model.visual, CONFIG, torch.randn(6, 32)).eval(), normalisation(backbone))
        shuffled = cam.heatmaps(with_model(head, randomised(head.model, 0)), pixels[2], ["difference", "stage3"])
        curves = curves_of_window(MapHeads(head), centre_window(pixels[0], head.size), "tokens")
        numbers = {f"curve of {name} {kind}": curve for name, own in curves.items() for kind, curve in own.items()}
        numbers |= {f"shuffled {layer}": own.values for layer, own in shuffled.items()} | mapcard.reference_scales(
            MapHeads(head), pixels[2:]
        )
        return mapcard.fingerprint(head), numbers

    (own, here), (other, there) = (measured(device) for device in ("cpu", "cuda"))
    assert own == other
    close(here, there)


def test_pretraining_of_the_embedded_model(pairs, tmp_path, card):  # noqa: F811
    from tiny import CONFIG as MODEL

    from detector.clip.pretrain.loop import PretrainRun, keep_text, pretrain, refine_decoder

    run = PretrainRun(pairs, tmp_path / "out", tmp_path / "checkpoints", device=card)
    metrics = pretrain(run, MODEL, replace(SMALL, epochs=1))
    assert metrics["caption_nats_per_token_val"] > 0
    again = pretrain(replace(run, resume=True), MODEL, replace(SMALL, epochs=2, caption_epochs=2))
    assert again["images"] == metrics["images"]
    assert refine_decoder(PretrainRun(pairs, tmp_path / "better", tmp_path / "decoder", device=card), tmp_path / "out", SMALL)
    further = PretrainRun(pairs, tmp_path / "further", tmp_path / "images", device=card)
    assert keep_text(further, tmp_path / "out", replace(SMALL, average=0.9))["before"]["images"] == metrics["images"]
    assert Backbone.load(str(tmp_path / "better"), "cuda").encode_text(["a dog"]).device.type == "cpu"


def test_the_autoencoder(pairs, tmp_path, card, monkeypatch):  # noqa: F811
    from detector.clip.autoencoder import Autoencoder, Crops, load_autoencoder, resynthesise, train_autoencoder

    made, build = [], Autoencoder.to
    monkeypatch.setattr(Autoencoder, "to", lambda self, *a, **k: made.append(a) or build(self, *a, **k))
    assert train_autoencoder(pairs, Crops(steps=2, batch=2, size=16), out=tmp_path / "weights.safetensors") > 0
    assert torch.device(made[0][0]).type == "cuda"
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    model = load_autoencoder(tmp_path / "weights.safetensors")
    here = resynthesise(picture, model)
    assert np.abs(resynthesise(picture, model.to(card)).astype(int) - here).max() <= 1


# --- the parts -----------------------------------------------------------------------------------------------------


def test_captions_objects_and_edits(tmp_path, pixels, card):
    folder = write_tiny(tmp_path / "writer")

    def told(device):
        backbone = Backbone.load(str(folder), device)
        images = torch.stack([backbone.prepare(one) for one in pixels])
        made = item.align(backbone, pixels, images, backbone.encode(images), [None, user_caption("a dog on a beach"), None])
        one = item.align(backbone, pixels[:1], images[:1], backbone.encode(images[:1]), [user_caption("a cat")])
        edited = item.realign(backbone, pixels[0], one, user_caption("a bus near a dog"))
        arrays = item.extract_alignment(backbone, [pixels])
        heat = made.readings[1].objects[0].heat
        return made.texts, {"inputs": made.inputs[1:2], "edited": edited.inputs, "image": arrays["image"], "heat": heat}

    (texts, here), (texts_there, there) = (told(device) for device in ("cpu", "cuda"))
    assert texts == texts_there
    close(here, there)


def test_released_heads_units_and_concepts(folder, pixels, card):
    from detector.clip.vocabulary import vocabulary
    from detector.methods.concepts.head import concept_directions
    from detector.methods.orthogonal.naming import name_units
    from detector.methods.released import released_features

    backbone = Backbone.load(str(folder), "cuda")
    clip = backbone.encode(torch.stack([backbone.prepare(one) for one in pixels]))
    assert not isinstance(clip.patches, CudaTensor) and not isinstance(clip.pooled, CudaTensor)
    heads = heads_for(backbone)
    features = released_features(heads, backbone, pixels, clip)
    assert all(len(heads[name].logits(features[name]).numpy()) == len(pixels) for name in heads)
    head = next(own.head for name, own in heads.items() if "orthogonal" in name)
    named = name_units(head.weight, concept_directions(backbone), backbone.projection, vocabulary(), clip.pooled, clip.projected)
    assert len(named["names"]) == 8


def test_heads_work_where_their_tensors_and_inputs_lie(card):
    from detector.methods.concepts.head import ConceptHead
    from detector.methods.orthogonal.head import LinearProbe

    features, _ = labelled(6, 0)
    concepts = ConceptHead(*(torch.ones(shape) for shape in ((3, 12), (3, 12), (3,), (3,), ())))
    for head in (LinearProbe(torch.ones(12), torch.tensor(0.5)), concepts):
        there = type(head)(**{name: value.to(card) for name, value in vars(head).items()})
        scored = [
            own.score(Evidence(ClipFeatures(f, f, None), np.zeros((6, 15)), np.zeros((6, 1)))).logit
            for own, f in ((head, features), (there, features.to(card)))
        ]
        np.testing.assert_allclose(*scored, atol=1e-6)


def test_patch_tokens_are_copied_only_where_they_are_read(folder, data, card, monkeypatch):
    backbone, sizes = Backbone.load(str(folder), "cuda"), []
    encode = backbone.encode
    monkeypatch.setattr(backbone, "encode", lambda images, tokens=True: sizes.append((len(images), tokens)) or encode(images, tokens))
    examples = read_dataset(data)
    there = train.extract_clip(backbone, examples, 2, 0, "")
    assert sizes == [(66, False), (108 - 66, False)]  # whole examples of three views, at least 64
    here = train.extract_clip(Backbone.load(str(folder), "cpu"), examples, 2, 0, "")
    close(here, there)
    features = backbone.encode(torch.zeros(1, 3, 32, 32), tokens=False)
    assert features.patches is None and features.previous is None
