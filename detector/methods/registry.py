"""Which methods there are, where the head files of a backbone lie, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.assets import EMBEDDED, MODELS, user_folder
from detector.clip.backbone import Backbone
from detector.clip.vocabulary import vocabulary
from detector.methods.base import Head, HeadCard, HeadError, Shapes, check_card, check_tensors, load_head
from detector.methods.concepts.head import ConceptHead
from detector.methods.item.head import ItemHead
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead
from detector.methods.physical import features as physical
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical_clip.head import PhysicalClipHead
from detector.methods.residual import features as residual
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddHead
from detector.methods.table import Fitted, Table, Training

WHOLE = "shorter side to {size}, centre crop"


@dataclass(frozen=True)
class Method:
    """One way to tell photographs from synthetic images: what its head is, what it reads, and how it is trained.

    fit: "module:function", called with (train: Table, val: Table, training: Training) → Fitted; imported when it is needed, as
    training brings libraries that scoring does without. preprocessing: of the images that it reads, `{size}` being the backbone's.
    evidence: the fields of `Evidence` that it reads. features: version of the pixel features of a method that reads no backbone, and so
    serves every one. tower: it runs the backbone's tower itself, adapted, and `from_tensors` builds it from the card and the backbone.
    text: it reads what the backbone's text tower makes of words.
    """

    name: str
    head: type[Head]
    reads: str
    fit: str
    preprocessing: str = WHOLE
    evidence: tuple[str, ...] = ("clip",)
    features: str = ""
    tower: bool = False
    text: bool = False

    def fitter(self) -> Callable[[Table, Table, Training], Fitted]:
        module, _, function = self.fit.partition(":")
        return getattr(import_module(module), function)


METHODS = {
    method.name: method
    for method in (
        Method(
            "physical",
            PhysicalHead,
            "fifteen descriptors at the fixed 256-pixel scale",
            "detector.methods.physical.train:fit",
            "pixels as decoded",
            ("descriptors",),
            features=physical.VERSION,
        ),
        Method(
            "residual",
            ResidualHead,
            "high-pass residual of the pixels",
            "detector.methods.residual.train:fit",
            "pixels as decoded",
            ("residual",),
            features=residual.VERSION,
        ),
        Method("linear_probe", LinearProbe, "pooled", "detector.methods.orthogonal.train:fit_probe"),
        Method("orthogonal", OrthogonalHead, "pooled", "detector.methods.orthogonal.train:fit"),
        Method("concepts", ConceptHead, "projected", "detector.methods.concepts.train:fit", text=True),
        Method(
            "item",
            ItemHead,
            "projected image, crops, caption and objects",
            "detector.methods.item.train:fit",
            evidence=("alignment",),
            text=True,
        ),
        Method(
            "physical_clip",
            PhysicalClipHead,
            "projected image and text, descriptors",
            "detector.methods.physical_clip.train:fit",
            evidence=("clip", "descriptors", "alignment"),
            text=True,
        ),
        Method(
            "sdd",
            SddHead,
            "pixels of windows, and the tokens of the adapted tower",
            "detector.methods.sdd.train:fit",
            "windows of {size} × {size} pixels at the image's own resolution",
            ("pixels",),
            tower=True,
        ),
    )
}
PIXEL_METHODS = {method.name: method.features for method in METHODS.values() if method.features}
TOWER_METHODS = tuple(method.name for method in METHODS.values() if method.tower)
CAPTIONED = tuple(method.name for method in METHODS.values() if "alignment" in method.evidence)
BESIDE = {"verdict": ("logits of the methods", "logits as the heads give them"), "reference": ("pooled and projected", WHOLE)}


def require_suited(method: str, backbone: Backbone) -> None:
    """Raise HeadError, one sentence, if a method cannot read what the backbone gives. Nothing is computed."""
    if METHODS[method].tower and not backbone.is_transformer:
        kind = type(backbone.model.visual).__name__
        raise HeadError(
            f"The method '{method}' adapts the blocks of a vision transformer, and '{backbone.name}' has a {kind}; leave it out."
        )
    if METHODS[method].text and not backbone.reads_text:
        raise HeadError(f"The method '{method}' reads texts, and '{backbone.name}' has a tokenizer other than CLIP's own; leave it out.")


def home_folder(backbone: Backbone | str) -> Path:
    """Where the heads lie that the user makes for a backbone: `CUESCOPE_HOME/models/NAME/FINGERPRINT/heads`.

    A name alone, whose weights are not loaded, gives the folder written last. RuntimeError where the account has no home folder.
    """
    name = backbone if isinstance(backbone, str) else backbone.name
    word = Path(name).resolve().name if Path(name).is_dir() else name.replace("/", "--")
    models = user_folder("CUESCOPE_HOME") / "models" / word
    if not isinstance(backbone, str):
        return models / backbone.fingerprint / "heads"
    return max(models.glob("*/heads"), key=lambda folder: folder.stat().st_mtime, default=models / "heads")


def shipped_folders(backbone: str) -> list[Path]:
    """Where the heads lie that come with a backbone: its own folder, then the pixel methods' one."""
    own = Path(backbone) if backbone != EMBEDDED and Path(backbone).is_dir() else MODELS / backbone.replace("/", "--")
    return [own / "heads", MODELS / "pixels"]


def heads_folders(backbone: Backbone | str) -> list[Path]:
    """Where a backbone's heads are looked up, the first place first: the user's own, the backbone's folder, the pixel methods' one."""
    shipped = shipped_folders(backbone if isinstance(backbone, str) else backbone.name)
    try:
        return [home_folder(backbone), *shipped]
    except RuntimeError:  # an account without a home folder has made no heads
        return shipped


def find_heads(backbone: Backbone | str) -> dict[str, Path]:
    """Method → head file, for the methods known here that are present, see `heads_folders`."""
    return heads_in(heads_folders(backbone))


def heads_in(folders: Sequence[Path]) -> dict[str, Path]:
    """Method → head file, also of "verdict" and "reference"; of two files for one method the first folder's."""
    paths: dict[str, Path] = {}
    for folder in folders:
        for method in (*METHODS, "verdict", "reference"):
            if (folder / f"{method}.safetensors").is_file():
                paths.setdefault(method, folder / f"{method}.safetensors")
    return paths


def expected_card(method: str, backbone: Backbone) -> HeadCard:
    """The entries of a head's card that follow from the method and the backbone alone."""
    reads, preprocessing = BESIDE[method] if method in BESIDE else (METHODS[method].reads, METHODS[method].preprocessing)
    backbone_name, made_on = ("none", PIXEL_METHODS[method]) if method in PIXEL_METHODS else (backbone.name, backbone.fingerprint)
    return HeadCard(method, backbone_name, made_on, reads, preprocessing.format(size=backbone.size), "", "")


def read_file(
    path: Path, method: str, backbone: Backbone, shapes: Callable[[HeadCard], Shapes | None], missing: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], HeadCard]:
    """Tensors and card of a file, after every check that all of them share. missing: tensors in which NaN stands for no value."""
    tensors, card = load_head(path)
    check_card(card, expected_card(method, backbone))
    check_tensors(card, tensors, shapes(card), missing)
    return tensors, card


def read_head(path: Path, method: str, backbone: Backbone) -> tuple[Any, HeadCard]:
    """(head, card) of a method's head file. HeadError, one sentence, if it is damaged or belongs to something else."""
    kind: Any = METHODS[method].head  # a head class also has `shapes` and `from_tensors`, whose arguments differ
    sizes = backbone.sizes
    tensors, card = read_file(path, method, backbone, lambda _: None if method in TOWER_METHODS else kind.shapes(sizes))
    if method == "concepts":
        _check_vocabulary(card)
    more = (card.details, backbone) if method in TOWER_METHODS else (card.details,) if method == "residual" else ()
    return kind.from_tensors(tensors, *more), card


def _check_vocabulary(card: HeadCard) -> None:
    """Numbers of a concept head that was trained on another vocabulary would get wrong names."""
    if card.details.get("concepts") != [concept.name for concept in vocabulary()]:
        raise HeadError("The concepts head was trained on another vocabulary; train it again with `python -m detector train`.")


def read_heads(backbone: Backbone) -> tuple[dict[str, Any], dict[str, HeadCard]]:
    """Method → head and method → card, for the heads that are present."""
    read = {method: read_head(path, method, backbone) for method, path in find_heads(backbone).items() if method in METHODS}
    return {method: head for method, (head, _) in read.items()}, {method: card for method, (_, card) in read.items()}
