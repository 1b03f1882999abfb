"""Which methods there are, where the head files of a backbone lie, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from detector.assets import EMBEDDED, MODELS
from detector.clip.backbone import Backbone
from detector.clip.vocabulary import vocabulary
from detector.methods.base import HeadCard, HeadError, Shapes, check_card, check_tensors, load_head
from detector.methods.concepts.head import ConceptHead
from detector.methods.item.head import ItemHead
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.physical import features as physical
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical_clip.head import PhysicalClipHead
from detector.methods.residual import features as residual
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddHead

METHODS = {
    "physical": PhysicalHead,
    "residual": ResidualHead,
    "linear_probe": LinearProbe,
    "orthogonal": OrthogonalHead,
    "concepts": ConceptHead,
    "item": ItemHead,
    "physical_clip": PhysicalClipHead,
    "sdd": SddHead,
}
PIXEL_METHODS = {"physical": physical.VERSION, "residual": residual.VERSION}  # serve every backbone → version of their features
TOWER_METHODS = ("sdd",)  # run the backbone's tower themselves, adapted
CAPTIONED = ("item", "physical_clip")  # read a caption of the image
READS = {"physical": "fifteen descriptors at the fixed 256-pixel scale", "residual": "high-pass residual of the pixels",
         "linear_probe": "pooled", "orthogonal": "pooled", "concepts": "projected", "reference": "pooled and projected",
         "item": "projected image, crops, caption and objects", "physical_clip": "projected image and text, descriptors",
         "sdd": "pixels of windows, and the tokens of the adapted tower", "verdict": "logits of the methods"}


def heads_folders(backbone: str) -> list[Path]:
    """Where a backbone's heads lie: its own folder, then the pixel methods' one."""
    own = Path(backbone) if backbone != EMBEDDED and Path(backbone).is_dir() else MODELS / backbone.replace("/", "--")
    return [own / "heads", MODELS / "pixels"]


def find_heads(backbone: str) -> dict[str, Path]:
    """Method → head file, for the methods known here that are present; the backbone's own folder wins."""
    found = {}
    for folder in heads_folders(backbone):
        for method in (*METHODS, "verdict", "reference"):
            if (folder / f"{method}.safetensors").is_file():
                found.setdefault(method, folder / f"{method}.safetensors")
    return found


def expected_card(method: str, backbone: Backbone) -> HeadCard:
    """The entries of a head's card that follow from the method and the backbone alone."""
    if method in PIXEL_METHODS:
        return HeadCard(method, "none", PIXEL_METHODS[method], READS[method], "pixels as decoded", "", "")
    preprocessing = {
        "verdict": "logits as the heads give them",
        "sdd": f"windows of {backbone.size} × {backbone.size} pixels at the image's own resolution",
    }.get(method, f"shorter side to {backbone.size}, centre crop")
    return HeadCard(method, backbone.name, backbone.fingerprint, READS[method], preprocessing, "", "")


def read_file(path: Path, method: str, backbone: Backbone, shapes: Callable[[HeadCard], Shapes | None],
          missing: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], HeadCard]:
    """Tensors and card of a file, after every check that all of them share. missing: tensors in which NaN stands for no value."""
    tensors, card = load_head(path)
    check_card(card, expected_card(method, backbone))
    check_tensors(card, tensors, shapes(card), missing)
    return tensors, card


def read_head(path: Path, method: str, backbone: Backbone):
    """(head, card) of a method's head file. HeadError, one sentence, if it is damaged or belongs to something else."""
    kind, sizes = METHODS[method], backbone.sizes
    tensors, card = read_file(path, method, backbone, lambda _: None if method in TOWER_METHODS else kind.shapes(sizes))
    if method == "concepts":
        _check_vocabulary(card)
    more = (card.details, backbone) if method in TOWER_METHODS else ()
    return kind.from_tensors(tensors, *more), card


def _check_vocabulary(card: HeadCard) -> None:
    """Numbers of a concept head that was trained on another vocabulary would get wrong names."""
    if card.details.get("concepts") != [concept.name for concept in vocabulary()]:
        raise HeadError("The concepts head was trained on another vocabulary; train it again with `python -m detector train`.")


def read_heads(backbone: Backbone) -> tuple[dict, dict[str, HeadCard]]:
    """Method → head and method → card, for the heads that are present."""
    read = {method: read_head(path, method, backbone) for method, path in find_heads(backbone.name).items() if method in METHODS}
    return {method: head for method, (head, _) in read.items()}, {method: card for method, (_, card) in read.items()}
