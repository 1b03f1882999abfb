"""Checkpoints in the layouts of released heads, made here, and the algebra of these heads written a second time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

from detector.methods.published import SOURCES, PublishedError

REFERENCE = ROOT.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "head_outputs.json").is_file(), reason=f"the released checkpoints are not in {REFERENCE}"
)
LINEAR, ORTHOGONAL, CONCEPT, UNIVFD = ONE_OF_EACH = (
    "clip-cues/linear_probe_cnnspot",
    "clip-cues/clip_orthogonal_synthclic",
    "clip-cues/cm_antonyms_combined",
    "univfd/fc",
)


def features_for(name: str, seed: int = 0, rows: int = 4) -> torch.Tensor:
    """The released numbers belong to seed 0 with 4 rows."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal((rows, SOURCES[name].width)).astype(np.float32))


def synthetic_state(name: str) -> dict[str, torch.Tensor]:
    """Random weights under the released keys, spelt out here a second time, so that a renamed key shows."""
    method = "univfd" if name == UNIVFD else SOURCES[name].method
    head = "model.classification_head"
    shapes = {
        "univfd": {"weight": (1, 768), "bias": (1,)},
        "linear": {f"{head}.fc.weight": (1, 1024), f"{head}.fc.bias": (1,)},
        "orthogonal": {
            f"{head}.layers.0.weight": (8, 1024),
            f"{head}.layers.0.bias": (8,),
            f"{head}.to_logits.weight": (1, 8),
            f"{head}.to_logits.bias": (1,),
        },
        "concept": {
            "model.text_embeddings": (168, 768),
            "model.W_concepts.weight": (168, 768),
            "model.W_concepts.bias": (168,),
            "model.W_classifier.weight": (1, 168),
            "model.W_classifier.bias": (1,),
        },
    }[method]
    generator = torch.Generator().manual_seed(7)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    if method == "concept":
        state["model.text_embeddings"] = torch.nn.functional.normalize(state["model.text_embeddings"], dim=1)
    return state


def packed(name: str, state: object) -> object:
    if name == UNIVFD:
        return state
    return {"state_dict": state, "model_type": {"orthogonal": "clip"}.get(SOURCES[name].method, SOURCES[name].method)}


def as_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def checkpoint(folder: Path, name: str, content: object = None) -> Path:
    path = folder / "custom.ckpt"
    path.write_bytes(as_bytes(packed(name, synthetic_state(name)) if content is None else content))
    return path


def direct_logits(state: dict[str, torch.Tensor], features: torch.Tensor) -> np.ndarray:
    """The heads' definitions in float64 numpy, one image and one term at a time."""
    values = [np.asarray(tensor, dtype=np.float64) for tensor in state.values()]
    rows = np.asarray(features, dtype=np.float64)
    if len(values) == 2:  # w, b
        return np.array([values[0][0] @ row + values[1][0] for row in rows])
    if len(values) == 4:  # W, c, v, d, folded into one linear probe
        matrix, offsets, weight, bias = values
        return np.array([(weight[0] @ matrix) @ row + weight[0] @ offsets + bias[0] for row in rows])
    concepts, gates, gate_bias, weight, bias = values
    logits = []
    for row in rows:
        unit = row / np.sqrt((row**2).sum())
        terms = [
            w * (concept @ unit) / (1 + np.exp(-(gate @ unit + offset)))
            for concept, gate, offset, w in zip(concepts, gates, gate_bias, weight[0], strict=True)
        ]
        logits.append(sum(terms) + bias[0])
    return np.array(logits)


def assert_one_sentence(error: BaseException) -> None:
    text = str(error)
    assert text.endswith(".") and "\n" not in text and ". " not in text and len(text) < 700, text


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(PublishedError) as caught:
        call()
    assert_one_sentence(caught.value)
    return str(caught.value)


class Marker:
    """A pickle of this creates a file when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)
