"""Weights of sources in every fit: equal weights change nothing, and a source that weighs more counts for more."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detector.clip.backbone import ClipFeatures
from detector.data.sources import source_folds, source_weights
from detector.logistic import fit_logistic
from detector.methods.base import Evidence
from detector.methods.concepts import train as concepts
from detector.methods.item import train as item
from detector.methods.orthogonal import train as orthogonal
from detector.methods.physical import train as physical
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical_clip import train as physical_clip
from detector.methods.residual import head as residual
from detector.methods.residual.features import FEATURES as FEATURES_OF_RESIDUAL
from detector.methods.table import Table, Training
from detector.trainer import Rows


def test_a_source_weighs_its_count_to_the_power_and_classes_weigh_the_same():
    labels = np.repeat([0, 0, 1, 1], [16, 4, 9, 1])
    sources = np.repeat(["coco", "both", "flux", "both"], [16, 4, 9, 1])
    for power in (0.0, 0.5, 1.0):
        weights = source_weights(labels, sources, power)
        sums = [weights[(labels == label) & (sources == source)].sum() for label, source in ((0, "coco"), (0, "both"), (1, "flux"))]
        assert weights.mean() == pytest.approx(1) and weights[labels == 1].sum() == pytest.approx(15)
        assert sums[0] / sums[1] == pytest.approx(4 ** (1 - power))
        assert sums[2] / (15 - sums[2]) == pytest.approx(9 ** (1 - power))


def test_equal_weights_are_an_epoch_of_all_rows_and_others_are_draws():
    def order(weights):
        return torch.cat(list(Rows(400, 64, torch.device("cpu"), torch.Generator().manual_seed(1), weights).batches()))

    assert torch.equal(order(None), order(torch.full((400,), 2.0)))
    drawn = order(torch.cat([torch.ones(200), 3 * torch.ones(200)]))
    assert len(drawn) == 400 and (drawn >= 200).float().mean() == pytest.approx(0.75, abs=0.08)


def rows(count=120):
    """Two real and two synthetic sources of uneven size. In the large ones a first feature tells the classes apart, in the small ones it
    tells the opposite."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    small = np.arange(count) % 10 < 2
    signal = np.where(small, 1 - 2 * labels, 2 * labels - 1)
    features = generator.normal(size=(count, 24)).astype(np.float32)
    features[:, 0] += 2 * signal
    return features, labels, np.array([f"{label}{few}" for label, few in zip(labels, small, strict=True)])


FEATURES, LABELS, SOURCES = rows()
PAIR = (torch.from_numpy(FEATURES), torch.from_numpy(LABELS).float())


def _probe(weights):
    return orthogonal.fit_linear_probe(PAIR, PAIR, weights=weights).tensors()


def _orthogonal(weights):
    return orthogonal.fit_orthogonal(PAIR, PAIR, units=4, weights=weights).tensors()


def _concepts(weights):
    directions = torch.nn.functional.normalize(torch.randn(6, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    recipe = concepts.ConceptRecipe(epochs=3)
    return concepts.fit_concepts(PAIR, PAIR, directions, recipe=recipe, weights=weights).tensors()


def _item(weights):
    drawn = None if weights is None else torch.from_numpy(weights)
    return item.train_network(PAIR, PAIR, recipe=item.ItemRecipe(epochs=2), weights=drawn).state_dict()


def _physical_clip(weights):
    inputs = physical_clip.Inputs(PAIR[0], PAIR[0].flip(1), PAIR[0][:, :5].sigmoid(), PAIR[1])
    recipe = physical_clip.PhysicalClipRecipe(epochs=2)
    return physical_clip.train_network(inputs, inputs, recipe=recipe, weights=weights).state_dict()


def _physical(weights):
    values = FEATURES[:, :15]
    return PhysicalHead.fit(values, LABELS, (values, LABELS), weights=weights).tensors()


def _residual(weights):
    wide = np.tile(FEATURES, (1, 68))[:, : len(FEATURES_OF_RESIDUAL)]
    return residual.ResidualHead.fit(wide, LABELS, weighting=residual.Weighting(weights)).tensors()


FITS = [_probe, _orthogonal, _concepts, _item, _physical_clip, _physical, _residual]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__[1:])
def test_equal_weights_reproduce_the_fit_without_weights_and_others_do_not(fit):
    plain, equal, uneven = fit(None), fit(np.ones(len(LABELS))), fit(source_weights(LABELS, SOURCES, 1.0))
    for name, value in plain.items():
        np.testing.assert_array_equal(np.asarray(equal[name]), np.asarray(value))
    assert any(not np.allclose(np.asarray(uneven[name]), np.asarray(value)) for name, value in plain.items())


def test_a_weight_counts_as_that_many_rows():
    doubled = np.r_[np.arange(120), np.arange(0, 120, 3)]
    weights = np.where(np.arange(120) % 3 == 0, 2.0, 1.0)
    many = fit_logistic(FEATURES[doubled], LABELS[doubled], 1e-6)
    np.testing.assert_allclose(fit_logistic(FEATURES, LABELS, 1e-6, weights), many, rtol=1e-3, atol=1e-4)
    assert np.abs(fit_logistic(FEATURES, LABELS, 1e-6) - many).max() > 0.01


def test_methods_weigh_the_sources_of_their_table():
    """The large sources' sign wins where rows weigh the same; where sources do, its lead goes."""
    evidence = Evidence(ClipFeatures(PAIR[0], PAIR[0], None), FEATURES[:, :15], FEATURES)
    table = Table(evidence, LABELS, SOURCES, np.zeros(120, int))
    training = Training(SimpleNamespace(device="cpu"))
    probe = orthogonal.fit_probe(table, table, training)
    assert probe.details["recipe"]["power"] == 0.5
    plain = orthogonal.fit_linear_probe(PAIR, PAIR)
    assert 0 < float(probe.head.weight[0]) < float(plain.weight[0])
    descriptors = physical.fit(table, table, training).head
    unweighted = PhysicalHead.fit(FEATURES[:, :15], LABELS, (FEATURES[:, :15], LABELS))
    assert np.ptp(descriptors.weight[0]) < np.ptp(unweighted.weight[0])


def test_folds_hold_out_whole_sources_of_both_classes_and_are_balanced():
    from detector.data.datasets import DataError

    generator = np.random.default_rng(0)
    names = [f"real{i}" for i in range(9)] + [f"fake{i}" for i in range(8)]
    sizes = generator.integers(20, 200, len(names))
    sources = np.repeat([*names, "pair", "pair"], [*sizes, 30, 40])
    labels = np.repeat([*(int(name.startswith("fake")) for name in names), 0, 1], [*sizes, 30, 40])
    folds = source_folds(labels, sources, 4, seed=1)
    assert all(len(set(folds[sources == name])) == 1 for name in set(sources))
    for label in (0, 1):
        shares = np.bincount(folds[labels == label], minlength=4) / (labels == label).sum()
        assert shares.min() > 0.15 and shares.max() < 0.35
    np.testing.assert_array_equal(folds, source_folds(labels, sources, 4, seed=1))
    assert (folds != source_folds(labels, sources, 4, seed=2)).any()
    with pytest.raises(DataError, match="at least 11 real sources"):
        source_folds(labels, sources, 11)
