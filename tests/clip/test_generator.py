"""The text-to-image generator: shapes, the flow solved by hand, training on toy pairs, and what the shipped weights do with words."""

import csv
import io
import tarfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detector.clip.autoencoder import Autoencoder, load_autoencoder
from detector.clip.backbone import Backbone
from detector.clip.generator.measures import frechet, measure_generator, own_caption_first, painted
from detector.clip.generator.model import WEIGHTS, Generator, Shape, grid_positions, load_generator, save_generator
from detector.clip.generator.sampling import Painter, Sampling, sample
from detector.clip.generator.train import Recipe, along, principal_axes, train_generator
from detector.hub.weights import WeightsError
from interpret.examples import DRAWINGS, DRAWN, GUIDANCE, existing_examples

SMALL = Shape(side=4, width=48, depth=1, heads=2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two kinds of pictures, which their captions tell: red above, blue above."""
    folder, generator = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    rows = []
    for split, count in (("train", 24), ("test", 12)):
        with tarfile.open(folder / f"{split}.tar", "w") as archive:
            for index in range(count):
                picture = generator.integers(0, 60, (36, 40, 3)).astype(np.uint8)
                picture[:18, :, 2 * (index % 2)] += 180  # BGR
                data = cv2.imencode(".webp", picture)[1].tobytes()
                info = tarfile.TarInfo(f"{split}{index}.webp")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
                rows.append((info.name, split, ("flickr8k", "houses")[index % 3 == 0], ("a blue sky", "a red roof")[index % 2]))
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "split", "source", "caption"), *rows])
    return folder


@pytest.fixture(scope="module")
def backbone():
    return Backbone.load()


# --- the network ---------------------------------------------------------------------------------------------------


def test_a_velocity_has_the_latents_shape_and_hears_time_and_text():
    torch.manual_seed(0)
    model = Generator(SMALL)
    torch.nn.init.normal_(model.leave.weight)
    latents, texts = torch.randn(2, 12, 4, 4), torch.nn.functional.normalize(torch.randn(2, 256), dim=1)
    with torch.no_grad():
        plain = model(latents, torch.tensor([0.2, 0.7]), texts)
        assert plain.shape == latents.shape and torch.isfinite(plain).all()
        for times, words in (
            (torch.tensor([0.3, 0.7]), texts),
            (torch.tensor([0.2, 0.7]), -texts),
            (torch.tensor([0.2, 0.7]), texts * torch.nan),
        ):
            assert (model(latents, times, words) - plain).abs().mean() > 1e-3


def test_positions_differ_from_place_to_place():
    positions = grid_positions(8, 48)
    assert positions.shape == (64, 48)
    assert torch.cdist(positions, positions).fill_diagonal_(9).min() > 0.1


class Straight(Generator):
    """Its velocity leads from anywhere to a constant: 3 with text, 1 without."""

    def forward(self, latents, times, texts):
        aim = torch.where(texts[:, :1].isnan(), 1.0, 3.0).view(-1, 1, 1, 1)
        return (aim - latents) / (1 - times.view(-1, 1, 1, 1))


def test_sampling_ends_where_the_flow_leads_and_guidance_goes_beyond():
    texts = torch.ones(2, 256)
    assert sample(Straight(SMALL), texts, Sampling(steps=7, guidance=1.0)) == pytest.approx(torch.full((2, 12, 4, 4), 3.0), abs=1e-4)
    assert sample(Straight(SMALL), texts, Sampling(steps=7, guidance=2.0)).mean() == pytest.approx(5, abs=1e-4)
    assert sample(Straight(SMALL), texts, Sampling(steps=7, guidance=0.0)).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 1000}, {"guidance": float("nan")}, {"guidance": -1.0}, {"seed": -1}, {"seed": 2**40}]
)
def test_impossible_settings_get_a_sentence(wrong):
    with pytest.raises(ValueError, match="must lie between"):
        Sampling(**wrong)


def test_axes_give_latents_back_and_the_first_holds_most():
    torch.manual_seed(0)
    latents = torch.randn(20, 12, 4, 4) * torch.linspace(0.2, 3, 12).view(-1, 1, 1) + 5
    mean, axes = principal_axes(latents)
    numbers = along(latents, mean, axes).float()
    spread = numbers.std((0, 2, 3))
    assert spread[0] == pytest.approx(1, abs=0.01) and (spread.diff() < 0).all()
    model = Generator(SMALL)
    model.mean, model.axes = mean, axes
    assert model.to_autoencoder(numbers) == pytest.approx(latents, abs=0.02)


# --- training ------------------------------------------------------------------------------------------------------


def test_training_learns_colours_from_words_and_goes_on_after_a_stop(pairs, tmp_path, backbone):
    recipe = Recipe(epochs=2, steps=20, batch=8, views=1, warm=5, calm=0, shape=SMALL, average=0.8, rate=3e-3)
    train_generator(pairs, tmp_path / "whole", recipe, out=tmp_path / "whole.safetensors")
    first = Recipe(**{**vars(recipe), "epochs": 1})
    train_generator(pairs, tmp_path / "parts", first, out=tmp_path / "first.safetensors")
    loss = train_generator(pairs, tmp_path / "parts", recipe, resume=True, out=tmp_path / "parts.safetensors")
    whole, parts = (load_generator(tmp_path / f"{name}.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole) and loss < 1.5
    painter = Painter(load_generator(tmp_path / "parts.safetensors"), load_autoencoder(), backbone)
    pictures = painted(painter, ["a blue sky"] * 6 + ["a red roof"] * 6, Sampling(steps=10))
    redness = pictures[..., 0].astype(float).mean((1, 2)) - pictures[..., 2].astype(float).mean((1, 2))
    assert redness[6:].mean() > redness[:6].mean() + 10


def test_measures_stand_beside_photographs_and_noise(pairs, backbone):
    rows = measure_generator(Painter(Generator(SMALL).eval(), Autoencoder().eval(), backbone), pairs)
    assert set(rows) >= {"photographs", "drawn", "noise, decoded"}
    assert rows["photographs"]["frechet"] < rows["drawn"]["frechet"]


def test_frechet_by_hand():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 3, generator=generator)
    assert frechet(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet(rows, rows + 2) == pytest.approx(12, abs=1e-6)  # three axes, each 2 away
    assert frechet(rows, rows * 3) == pytest.approx(
        float(torch.cov(rows.T).trace()) * 4 + float((2 * rows.mean(0)).square().sum()), abs=1e-6
    )


def test_own_caption_first_by_hand():
    eye = torch.eye(12)
    generator = np.random.default_rng(0)
    assert own_caption_first(eye, eye, generator) == 1 and own_caption_first(eye, eye.roll(1, 0), generator) == 0


def test_a_file_of_something_else_is_refused(tmp_path):
    from detector.hub.weights import write_weights

    write_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, {})
    with pytest.raises(WeightsError, match="does not hold a generator"):
        load_generator(tmp_path / "other.safetensors")
    save_generator(Generator(SMALL), tmp_path / "own.safetensors")
    assert load_generator(tmp_path / "own.safetensors").shape == SMALL


# --- the shipped one -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painter(backbone):
    return Painter(load_generator(), load_autoencoder(), backbone)


def test_the_shipped_one_fits_its_budget():
    assert WEIGHTS.stat().st_size <= 15e6


def test_the_shipped_one_draws_what_it_is_told(painter):
    texts = ["a photo of a sunflower", "a beach with waves", "a photo of a forest", "a photo of a house"]
    pictures = painter.paint(texts, Sampling(steps=20))
    assert pictures.shape == (4, 128, 128, 3) and pictures.dtype == np.uint8
    backbone = painter.backbone
    shown = torch.nn.functional.normalize(
        backbone.encode(torch.stack([backbone.prepare(p) for p in pictures]), tokens=False).projected, dim=1
    )
    cosines = shown @ backbone.encode_text(texts).T
    assert cosines.diagonal().mean() > (cosines.sum() - cosines.diagonal().sum()) / 12 + 0.1
    assert np.array_equal(painter.paint(texts[:1], Sampling(steps=20)), painter.paint(texts[:1], Sampling(steps=20)))
    assert not np.array_equal(painter.paint(texts[:1], Sampling(steps=5)), painter.paint(texts[:1], Sampling(steps=5, seed=1)))


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_a_text_without_a_word_gets_a_sentence(painter, text):
    with pytest.raises(ValueError, match="Say in a few words"):
        painter.paint([text])


@pytest.mark.parametrize("name", list(DRAWN)[:1])
def test_the_drawings_are_the_generators_own(painter, name):
    words, seed = DRAWN[name]
    drawn = painter.paint([words], Sampling(guidance=GUIDANCE, seed=seed))[0]
    assert np.abs(np.asarray(Image.open(DRAWINGS / name)).astype(int) - drawn).mean() < 8  # machines differ in the last digits


def test_each_drawing_is_there_and_labelled(tmp_path):
    shipped = {path.name: label for path, label in existing_examples(tmp_path)}
    assert set(shipped) == set(DRAWN) == {path.name for path in DRAWINGS.iterdir()} and len(DRAWN) == 12
    assert all(
        label.startswith("Synthetic: our drawing of “") and Image.open(DRAWINGS / name).size == (128, 128)
        for name, label in shipped.items()
    )
