"""The small generator and the examples made with it."""

import numpy as np
import torch
from PIL import Image

from detector.clip.autoencoder import Autoencoder, load_autoencoder, reconstruction_loss, resynthesise
from interpret.examples import EXAMPLES, make_examples


def test_shapes_and_range():
    output = Autoencoder()(torch.rand(2, 3, 32, 48))
    assert output.shape == (2, 3, 32, 48) and 0 <= output.min() and output.max() <= 1


def test_loss_by_hand():
    target = torch.zeros(1, 1, 2, 2)
    assert reconstruction_loss(target + 0.5, target).item() == 0.5  # a constant error has no differences
    step = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert reconstruction_loss(step, target).item() == 0.5 + 0 + 1  # mean error, rows alike, columns differ by one


def test_the_shipped_one_resembles_its_input_but_is_not_it(photographs):
    image = photographs[0]
    output = resynthesise(image, load_autoencoder())
    height, width = (length // 8 * 8 for length in image.shape[:2])
    assert output.shape == (height, width, 3)
    error = np.abs(output.astype(int) - image[:height, :width]).mean()
    shuffled = np.abs(output[::-1].astype(int) - image[:height, :width]).mean()
    assert 1 < error < 0.4 * shuffled


def test_examples_are_made_once_and_labelled(tmp_path):
    made = [(path, label) for path, label in make_examples(tmp_path) if path.parent == tmp_path]
    assert [label for _, label in made] == [label for label, _ in EXAMPLES.values()]
    times = {path: path.stat().st_mtime_ns for path, _ in made}
    assert all(Image.open(path).format == "JPEG" for path in times)
    make_examples(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(list(tmp_path.iterdir())) == len(EXAMPLES)  # no temporary file stays
