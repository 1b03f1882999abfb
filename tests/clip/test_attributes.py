"""detector/clip/attributes.py and the vocabulary: every operation does what its name says, at any size."""

import numpy as np
import pytest

from detector.clip import attributes
from detector.clip.attributes import ATTRIBUTES, OPERATIONS
from detector.clip.vocabulary import vocabulary

ALL = [(a.concept.name, op) for a in ATTRIBUTES for op in (a.operation, a.opposite) if op]


@pytest.mark.parametrize("name, operation", ALL)
def test_operations_keep_shape_and_type_and_repeat(name, operation, photographs):
    image = photographs[1]
    result = operation(image, 0.5)
    assert result.shape == image.shape and result.dtype == np.uint8
    assert np.abs(result.astype(int) - image).mean() > 0.5
    np.testing.assert_array_equal(result, operation(image, 0.5))
    for shape in ((1, 1, 3), (2, 7, 3), (300, 40, 3)):
        assert operation(np.full(shape, 90, np.uint8), 1.0).shape == shape


@pytest.mark.parametrize("name, operation", [(n, o) for n, o in ALL if n not in ("tilted horizon", "close-up")])
def test_a_stronger_operation_changes_more(name, operation, photographs):
    image = photographs[0].astype(int)
    weak, strong = (np.abs(operation(photographs[0], s) - image).mean() for s in (0.0, 1.0))
    assert strong >= weak


def test_known_effects(photographs):
    image = photographs[0]
    grey = attributes.monochrome(image, 1.0)
    assert np.ptp(grey, axis=2).max() <= 1
    corner, centre = attributes.vignette(np.full((100, 100, 3), 200, np.uint8), 1.0)[[0, 50], [0, 50], 0]
    assert corner < 40 and centre == 200
    assert attributes.high_contrast(image, 0.5).std() > image.std() > attributes.low_contrast(image, 0.5).std()
    assert attributes.brighten(image, 0.5).mean() > image.mean() > attributes.darken(image, 0.5).mean()
    warm, cool = attributes.warm(image, 0.5).mean((0, 1)), attributes.cool(image, 0.5).mean((0, 1))
    assert warm[0] - warm[2] > 0 > cool[0] - cool[2]
    mirrored = attributes.mirror_symmetry(image, 0.5)
    np.testing.assert_array_equal(mirrored, mirrored[:, ::-1])


def test_small_and_large_copies_change_alike(photographs):
    import cv2

    large = cv2.resize(photographs[0], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    for operation in (attributes.blur, attributes.vignette, attributes.halftone, attributes.pixelate):
        small_copy = cv2.resize(operation(large, 0.5), photographs[0].shape[1::-1], interpolation=cv2.INTER_AREA)
        difference = np.abs(small_copy.astype(int) - operation(photographs[0], 0.5)).mean()
        assert difference < 0.5 * np.abs(operation(photographs[0], 0.5).astype(int) - photographs[0]).mean() + 4


def test_vocabulary_is_complete_and_its_operations_exist():
    words = vocabulary()
    assert len(words) >= 150 and len({c.name for c in words}) == len(words)
    assert {c.category for c in words} == {"color", "lens", "technique", "camera", "composition", "texture", "light", "content"}
    assert [a.concept.operation for a in ATTRIBUTES] == list(OPERATIONS)
    for concept in words:
        assert concept.positive != concept.negative and concept.explanation.endswith(".")
        assert concept.positive_prompt.endswith(concept.positive) and concept.negative_prompt.endswith(concept.negative)
