"""Whether a heatmap can be trusted: it must beat maps that know nothing of the detector, and it must need the detector.

* Deletion and insertion (RISE, arXiv 1806.07421), with blur instead of black as "nothing there": blur takes a generator's traces
  away without adding an edge to the picture. Beside the maps stand random, centre and edge maps and the map of another
  image: common measures hardly tell a map from chance (arXiv 2404.01415), so only the difference to those counts.
* Parameter randomisation (arXiv 1810.03292): a map that looks the same with shuffled weights shows the image, not the detector.
* Splices whose truth we made ourselves, beside controls that know nothing of the detector: `interpret/attribution/bench.py`.

`measure_maps` does all of it for every layer on validation or test images; `trust` turns its result into words.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from detector.data.datasets import Example
from detector.data.windows import crop_window
from detector.methods.residual.dense import picture_logits
from detector.methods.residual.features import WINDOW
from detector.progress import progress
from interpret.attribution import exact
from interpret.attribution.baselines import centre_prior, edges, noise
from interpret.attribution.bench import DIRECTED, BenchPlan, bench, in_threads, interval
from interpret.attribution.cam import WINDOW_LAYER, WindowHead
from interpret.attribution.exact import COMBINED_LAYER, NATIVE, RESIDUAL_LAYER, MapHeads
from interpret.attribution.splices import CONTROLS, Splice, make_splices

Scorer = Callable[[Sequence[np.ndarray]], np.ndarray]

CLASSIFIER = "classify"  # the model's child that turns features into the logit
CELL = 16  # pixels: places are taken away in squares of this side
STEPS = 8  # points of a curve after its start
BLUR = 4.0  # pixels, standard deviation of the "nothing there" picture
FEATHER = 2.0  # pixels, standard deviation of the border between picture and blur
CURVES = ("deletion", "insertion")
BASELINES = ("random", "centre", "edges", "another image's")
OTHER = ", another image's"
WIDE = (RESIDUAL_LAYER, COMBINED_LAYER)  # maps that rest on windows larger than those of SDD
CONTROL_RANGE = 0.05  # AUROC by which a control kind may differ from chance


# --- deletion and insertion ----------------------------------------------------------------------------------------


def blur(pixels: np.ndarray, sigma: float = BLUR) -> np.ndarray:
    """(H, W, 3) uint8 without its fine detail: what stands for "nothing there"."""
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


def order_of_cells(values: np.ndarray, cell: int = CELL) -> np.ndarray:
    """(H, W) map → (h, w) int ranks of its squares, 0 the highest mean; squares without a value come last."""
    height, width = (-(-length // cell) for length in values.shape)
    padded = np.full((height * cell, width * cell), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(height, cell, width, cell).transpose(0, 2, 1, 3).reshape(height, width, -1)
    finite = np.isfinite(blocks)
    sums = np.where(finite, blocks, 0).sum(2)
    means = np.where(finite.any(2), sums / np.maximum(finite.sum(2), 1), -np.inf)
    ranks = np.empty(means.size, int)
    ranks[np.argsort(-means.ravel(), kind="stable")] = np.arange(means.size)
    return ranks.reshape(height, width)


def mixtures(pixels: np.ndarray, values: np.ndarray, steps: int = STEPS, cell: int = CELL) -> Iterator[np.ndarray]:
    """`steps` + 1 pictures: from the image to its blurred copy, the map's highest squares first, with feathered borders."""
    ranks, nothing = order_of_cells(values, cell), blur(pixels)
    for step in range(steps + 1):
        highest = (ranks < round(ranks.size * step / steps)).astype(np.float32)
        mask = np.kron(highest, np.ones((cell, cell), np.float32))[: pixels.shape[0], : pixels.shape[1]]
        share = cv2.GaussianBlur(mask, (0, 0), FEATHER)[..., None]
        yield np.rint(share * nothing + (1 - share) * pixels).astype(np.uint8)


def curves(score: Scorer, pixels: np.ndarray, values: np.ndarray, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Logits along the deletion curve (highest squares blurred first) and the insertion curve (they come back first).

    score: pictures of one size → (B,) logits. values: (H, W), high where what speaks for `score` being high should lie. Each
    curve has `steps` + 1 logits; a faithful map makes deletion fall early and insertion rise early.
    """
    deletion = score(list(mixtures(pixels, values, steps)))
    # taking the lowest squares away first is the insertion curve read backwards
    insertion = score(list(mixtures(pixels, -values, steps)))[::-1]
    return {"deletion": np.asarray(deletion, float), "insertion": np.asarray(insertion, float)}


def area(curve: np.ndarray) -> float:
    """Mean height by the trapezoid rule over [0, 1], in the curve's own unit (logits)."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def faithfulness(
    score: Scorer, pixels: np.ndarray, maps: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], seed: int = 0, steps: int = STEPS
) -> dict[str, dict[str, float]]:
    """Map or baseline → {"deletion", "insertion"}: areas in logits towards the side that the detector decided for.

    maps: name → (H, W), positive for synthetic; for an image that it calls real maps and logits are negated, so
    lower deletion and higher insertion are better for every image. others: the same names' maps of another image, as smooth and
    strong: a map that only has its usual places does no better than these. Further baselines: random, centre, edges.
    """
    height, width = pixels.shape[:2]
    fitted = {name + OTHER: cv2.resize(values, (width, height)) for name, values in others.items()}
    return {
        name: {kind: area(curve) for kind, curve in map_curves.items()}
        for name, map_curves in oriented_curves(score, pixels, {**maps, **fitted}, seed, steps).items()
    }


def oriented_curves(
    score: Scorer, pixels: np.ndarray, maps: Mapping[str, np.ndarray], seed: int = 0, steps: int = STEPS
) -> dict[str, dict[str, np.ndarray]]:
    """Map or baseline → `curves` in logits towards the side that the detector decided for; see `faithfulness`."""
    side = 1.0 if float(score([pixels])[0]) > 0 else -1.0
    signed = {name: side * values for name, values in maps.items()}

    def towards(pictures: Sequence[np.ndarray]) -> np.ndarray:
        return side * np.asarray(score(pictures))

    return {name: curves(towards, pixels, values, steps) for name, values in (signed | _ignorant(pixels, seed)).items()}


def _ignorant(pixels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The first three of `BASELINES`."""
    return {"random": noise(pixels, seed), "centre": centre_prior(pixels), "edges": edges(pixels)}


def curves_of_window(heads: MapHeads, pixels: np.ndarray, layer: str, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """`oriented_curves` of one layer's map, named by the layer, and of the baselines, for a picture of at most one window of SDD, or
    four of `residual`: `curve_side` pixels a side."""
    return oriented_curves(_scorer(heads, layer), pixels, _values(heads, pixels, [layer]), seed)


def curve_side(heads: MapHeads, layer: str) -> int:
    """Pixels on a side of the part of a picture for which curves of a layer are made: one window of SDD, or two of `residual` for the maps
    that rest on it, since its windows must differ for them to point anywhere."""
    return 2 * WINDOW if layer in WIDE else heads.sdd.size


def compare(results: Sequence[Mapping[str, Mapping[str, float]]], names: Sequence[str], seed: int = 0) -> dict[str, dict]:
    """Map → curve → {"area": [mean, low, high], "gain": {baseline: [mean, low, high]}} over images, paired by image.

    gain: how much better than the baseline in logits, above 0 better for both curves (95 % bootstrap).
    """
    table: dict[str, dict] = {name: {} for name in names}
    for name in names:
        keys = dict(zip(BASELINES, (*BASELINES[:3], name + OTHER), strict=True))
        for curve, sign in zip(CURVES, (-1, 1), strict=True):
            gain = {
                baseline: interval([sign * (result[name][curve] - result[key][curve]) for result in results], seed)
                for baseline, key in keys.items()
            }
            table[name][curve] = {"area": interval([result[name][curve] for result in results], seed), "gain": gain}
    return table


# --- randomisation -------------------------------------------------------------------------------------------------


def randomised(model: nn.Module, seed: int, parts: Sequence[str] | None = None) -> nn.Module:
    """A copy whose parameters are shuffled within each tensor, so that their spread stays: in all or in the named children."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if parts is None or name.split(".")[0] in parts:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps over squares of `CELL` pixels: 1 same order, 0 unrelated, NaN if one is flat."""
    from scipy.stats import spearmanr

    small = [
        cv2.resize(np.nan_to_num(values), None, fx=1 / CELL, fy=1 / CELL, interpolation=cv2.INTER_AREA).ravel()
        for values in (first, second)
    ]
    if min(np.ptp(values) for values in small) == 0:
        return float("nan")
    return float(spearmanr(*small).statistic)


def with_model(head: WindowHead, model: nn.Module) -> WindowHead:
    """The same head on another model of the same kind."""
    other = copy.copy(head)
    object.__setattr__(other, "model", model)  # frozen heads, too
    return other


def shuffled(heads: MapHeads, seed: int, parts: Sequence[str] | None = None) -> MapHeads:
    """The heads with shuffled weights: SDD's model as `randomised`, `residual`'s weights among themselves."""
    sdd = with_model(heads.sdd, randomised(heads.sdd.model, seed, parts))
    if heads.residual is None:
        return MapHeads(sdd)
    return MapHeads(sdd, replace(heads.residual, weight=np.random.default_rng(seed).permutation(heads.residual.weight)))


def randomisation(heads: MapHeads, pictures: Sequence[np.ndarray], seed: int, layers: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Layer → {"all": …, "classifier": …}: |Spearman| between the map and that of a shuffled model, [mean, low, high]; low is good.

    "classifier": only the model's child `classify`; "all": every parameter; both the same for `residual`. Each picture has a shuffle of its
    own.
    """

    def compared(item: tuple[int, np.ndarray]) -> dict[str, dict[str, float]]:
        index, pixels = item
        maps = _values(heads, pixels, layers)
        row: dict[str, dict[str, float]] = {}
        for kind, parts in (("all", None), ("classifier", [CLASSIFIER])):
            others = _values(shuffled(heads, seed + index, parts), pixels, layers)
            row[kind] = {layer: abs(similarity(maps[layer], others[layer])) for layer in layers}
        return row

    rows = in_threads(compared, enumerate(progress(pictures, title="shuffles")))
    return {layer: {kind: interval([row[kind][layer] for row in rows], seed) for kind in ("all", "classifier")} for layer in layers}


# --- all of it -----------------------------------------------------------------------------------------------------


def centre_window(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle `size` × `size` pixels, less where the picture is smaller: one window, so that a curve stays cheap."""
    y, x = (max(0, (length - size) // 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : y + size, x : x + size])


@dataclass(frozen=True)
class MeasurePlan:
    """How much is measured (choice). seed: of every draw. images: for the curves, half of them real and half synthetic. splices: of each
    kind. subset: draws of splices for the maps that are not `NATIVE`, each of which takes seconds. shuffles: splices whose maps are
    compared with those of shuffled weights."""

    seed: int = 0
    images: int = 24
    splices: int = 200
    subset: int = 12
    shuffles: int = 5


def measure_maps(
    heads: MapHeads, examples: Sequence[Example], plan: MeasurePlan = MeasurePlan(), layers: Sequence[str] | None = None
) -> dict:
    """Deletion, insertion, randomisation and splices for several layers (None: all), on labelled examples.

    Returns {"seed", "counts", "curves", "splices", "randomisation"}: plain numbers, ready for a card.
    """
    layers, seed = list(layers or heads.layers()), plan.seed
    examples_of_curves = _balanced(examples, plan.images, seed)
    results = measure_splices(heads, make_splices(examples, plan.splices, seed, load), plan, layers)
    draws = list(make_splices(examples, plan.shuffles, seed, load))
    return {
        "seed": seed,
        "counts": {"images": len(examples_of_curves), "splices": results["draws"], "subset": min(plan.subset, results["draws"])}
        | {"shuffles": len(draws)},
        "curves": _curves(heads, examples_of_curves, layers, seed),
        "splices": results,
        "randomisation": randomisation(heads, [splices[0].pixels for splices in draws], seed, layers),
    }


def measure_splices(heads: MapHeads, draws: Iterable[list[Splice]], plan: MeasurePlan, layers: Sequence[str]) -> dict:
    """`bench` of several layers: those that are `NATIVE` on all draws, the others on the first `plan.subset`."""
    cheap, costly = [layer for layer in layers if layer in NATIVE], [layer for layer in layers if layer not in NATIVE]
    counted = progress(draws, plan.splices, "splices")
    return bench(lambda pixels, names: _values(heads, pixels, names), counted, BenchPlan(cheap, costly, plan.subset, plan.seed))


def _curves(heads: MapHeads, examples: Sequence[Example], layers: Sequence[str], seed: int) -> dict:
    """`compare` for each layer that has places inside the part of a picture for which curves are made; the map of windows has none."""
    local_layers = [layer for layer in layers if layer not in (WINDOW_LAYER, *WIDE)]
    table: dict = {}
    for group in (local_layers, *([layer] for layer in layers if layer in WIDE)):
        if group:
            pictures = [centre_window(load(example), curve_side(heads, group[0])) for example in examples]
            table |= compare(_areas(heads, pictures, group, seed), group, seed)
    return table


def _areas(heads: MapHeads, pictures: Sequence[np.ndarray], layers: Sequence[str], seed: int) -> list[dict[str, dict[str, float]]]:
    """`faithfulness` of each picture; classes stand in turns, so the map of the next picture but one is of the same class."""
    maps = in_threads(lambda pixels: _values(heads, pixels, layers), pictures)
    score, others = _scorer(heads, layers[0]), maps[2:] + maps[:2]
    indices = progress(range(len(pictures)), title="curves")
    return in_threads(lambda i: faithfulness(score, pictures[i], maps[i], others[i], seed + i), indices)


def load(example: Example) -> np.ndarray:
    """(H, W, 3) uint8 pixels of an example."""
    from detector.data.images import load_photo

    return load_photo(example.path).pixels


def _balanced(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` examples, half of each class as far as there are, in turns."""
    generator = np.random.default_rng(seed)
    samples = []
    for label in (0, 1):
        of_class = [example for example in examples if example.label == label]
        samples.append([of_class[i] for i in generator.permutation(len(of_class))[: count // 2]])
    return [example for pair in zip(*samples, strict=False) for example in pair]


def _scorer(heads: MapHeads, layer: str) -> Scorer:
    """Pictures of one size → logits, by the head or heads that the layer explains; those for SDD alone are not larger than a window."""
    head, residual = heads.sdd, heads.residual
    if layer == RESIDUAL_LAYER and residual is not None:
        return lambda pictures: picture_logits(residual, pictures)
    if layer == COMBINED_LAYER and residual is not None:
        return lambda pictures: (np.array([_sdd_logit(head, picture) for picture in pictures]) + picture_logits(residual, pictures)) / 2

    def score(pictures: Sequence[np.ndarray]) -> np.ndarray:
        return head.window_logits([crop_window(picture, (0, 0, picture.shape[1], picture.shape[0]), head.size) for picture in pictures])

    return score


def _sdd_logit(head: Any, picture: np.ndarray) -> float:
    """SDD's logit of a whole picture, over the windows that its score rests on."""
    return float(head.pool(head.window_logits([crop_window(picture, box, head.size) for box in head.boxes(picture)])))


def _values(heads: MapHeads, pixels: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
    return {layer: heatmap.values for layer, heatmap in exact.maps(heads, pixels, layers).items()}


# --- in words ------------------------------------------------------------------------------------------------------


def failures(results: Mapping, layer: str) -> list[str]:
    """What a layer's map failed: deletion or insertion against a baseline, localisation of splices, chance on controls, randomisation.

    A test is passed where the 95 % interval of the gain lies above 0, over each baseline for the curves and over the best control
    for the AUROC of each kind of splice; where the mean AUROC on splices of one origin is 0.5 ± 0.05; and where |Spearman| is below 0.5 on
    average. A map without curves, that of windows, is asked for the rest.
    """
    curves, splices = results["curves"].get(layer, {}), results["splices"]["maps"][layer]
    failed = [f"{curve} against {name}" for curve in curves for name, gain in curves[curve]["gain"].items() if not gain[1] > 0]
    failed += [f"{kind}, against {gain['baseline']}" for kind, gain in splices["gain"].items() if not gain["auroc"][1] > 0]
    failed += [f"chance for {kind}" for kind in CONTROLS if not abs(splices["kinds"][kind]["auroc"][0] - 0.5) <= CONTROL_RANGE]
    if not results["randomisation"][layer]["all"][0] < 0.5:
        failed.append("needing the trained weights")
    return failed


def worth(results: Mapping, layer: str, cautious: bool = False) -> float:
    """Mean AUROC over the two kinds of splices whose parts differ in origin; a map that follows content alone gains nothing. cautious: the
    mean of the lower ends of the 95 % intervals, so that maps with few splices do not win by luck."""
    kinds = results["splices"]["maps"][layer]["kinds"]
    return float(np.mean([kinds[kind]["auroc"][int(cautious)] for kind in DIRECTED]))


def trust(results: Mapping, layer: str) -> str:
    """ "beats its baselines", or "does not beat its baselines: " and what it failed, from `measure_maps`' numbers."""
    failed = failures(results, layer)
    return "beats its baselines" if not failed else f"does not beat its baselines: {', '.join(failed)}"
