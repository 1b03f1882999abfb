"""Which methods there are, where the head files of a backbone lie, and how they are read."""

from __future__ import annotations

from pathlib import Path

from detector.backbone import EMBEDDED, MODELS, Backbone
from detector.concepts import ConceptHead
from detector.heads import HeadCard, HeadError, check_backbone, load_head
from detector.item import ItemHead
from detector.orthogonal import LinearProbe, OrthogonalHead
from detector.physical_clip import PhysicalClipHead
from detector.physical_head import PhysicalHead
from detector.reference import Reference
from detector.residual import ResidualHead
from detector.sdd import SddHead
from detector.verdict import Fusion
from detector.vocabulary import vocabulary

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
PIXEL_METHODS = ("physical", "residual")  # their heads serve every backbone
TOWER_METHODS = ("sdd",)  # run the backbone's tower themselves, adapted
CAPTIONED = ("item", "physical_clip")  # read a caption of the image


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


def read_head(path: Path, backbone: Backbone):
    """(head, card) of a method's head file. HeadError, one sentence, if it does not belong to this backbone's weights."""
    tensors, card = load_head(path)
    check_backbone(card, backbone.name, backbone.fingerprint)
    if card.method == "concepts":
        _check_vocabulary(card)
    more = (card.details, backbone) if card.method in TOWER_METHODS else ()
    return METHODS[card.method].from_tensors(tensors, *more), card


def _check_vocabulary(card: HeadCard) -> None:
    """Numbers of a concept head that was trained on another vocabulary would get wrong names."""
    if card.details.get("concepts") != [concept.name for concept in vocabulary()]:
        raise HeadError("The concepts head was trained on another vocabulary; train it again with `python -m detector train`.")


def read_heads(backbone: Backbone) -> tuple[dict, dict[str, HeadCard]]:
    """Method → head and method → card, for the heads that are present."""
    read = {method: read_head(path, backbone) for method, path in find_heads(backbone.name).items() if method in METHODS}
    return {method: head for method, (head, _) in read.items()}, {method: card for method, (_, card) in read.items()}


def read_fusion(backbone: Backbone, methods: tuple[str, ...]) -> Fusion | None:
    """The fusion of those `methods` that it was fitted with; None where none of them was.

    A backbone without a verdict of its own gets the embedded one's, restricted to the pixel methods: their heads, and so
    their validation logits, are the same for every backbone.
    """
    own = find_heads(backbone.name).get("verdict")
    tensors, card = load_head(own or MODELS / EMBEDDED / "heads" / "verdict.safetensors")
    if own:
        check_backbone(card, backbone.name, backbone.fingerprint)
    fusion = Fusion.from_tensors(card.details["methods"], tensors)
    usable = tuple(m for m in fusion.methods if m in methods and (own or m in PIXEL_METHODS))
    return fusion.restrict(usable) if usable else None


def read_reference(backbone: Backbone) -> Reference | None:
    """The reference images' features; None for a backbone on which no head was trained."""
    path = find_heads(backbone.name).get("reference")
    if path is None:
        return None
    tensors, card = load_head(path)
    check_backbone(card, backbone.name, backbone.fingerprint)
    return Reference.from_tensors(tensors)
