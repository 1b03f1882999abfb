"""The shipped embedded model on photographs it has not seen: scikit-learn's two, in many crops."""

import numpy as np
import pytest

from detector.clip.attributes import ATTRIBUTES
from detector.clip.vocabulary import vocabulary
from detector.methods.concepts.head import concept_directions


@pytest.fixture(scope="module")
def crops(photographs):
    generator = np.random.default_rng(0)
    found = []
    for _ in range(10):
        for image in photographs:
            y, x = generator.integers(0, 80), generator.integers(0, image.shape[1] - 176)
            found.append(np.ascontiguousarray(image[y : y + 176, x : x + 176]))
    return found


@pytest.mark.slow
def test_attributes_move_their_concepts(suite, crops):
    import torch
    import torch.nn.functional as F

    def encoded(images):
        return F.normalize(suite.backbone.encode(torch.stack([suite.backbone.prepare(i) for i in images])).projected, dim=1)

    directions = dict(zip([c.name for c in vocabulary()], concept_directions(suite.backbone), strict=True))
    clean, moved = encoded(crops), []
    for attribute in ATTRIBUTES:
        rise = (encoded([attribute.operation(i, 0.5) for i in crops]) - clean) @ directions[attribute.concept.name]
        moved.append((rise > 0).float().mean().item() >= 0.8)
    assert np.mean(moved) >= 0.75


def test_words_find_pictures(suite, photographs):
    """The flower is nearer to a sentence about a flower than the temple is, and the other way round."""
    import torch
    import torch.nn.functional as F

    images = F.normalize(suite.backbone.encode(torch.stack([suite.backbone.prepare(i) for i in photographs])).projected, dim=1)
    texts = suite.backbone.encode_text(["a photo of buildings", "a photo of roses"])
    scores = images @ texts.T
    assert scores[0, 0] > scores[1, 0] and scores[1, 1] > scores[0, 1]
