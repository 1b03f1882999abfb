"""The verdict and the reference images of a backbone, read from their files and checked against the heads that are present."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from detector.assets import EMBEDDED, MODELS
from detector.clip.backbone import Backbone
from detector.methods.base import HeadCard, HeadError, check_card, check_tensors, load_head
from detector.methods.registry import PIXEL_METHODS, expected_card, find_heads, read_file
from detector.verdict.fusion import Fusion
from detector.verdict.reference import Reference


@dataclass(frozen=True)
class FusedVerdict:
    """fusion: of the methods that are present, None where there are none. card: of the file that it was read from, if it was.

    absent: methods that the verdict was fitted with and that have no head here.
    """

    fusion: Fusion | None
    card: HeadCard | None = None
    absent: tuple[str, ...] = ()

    def restrict(self, heads: Collection[str]) -> FusedVerdict:
        """The same for these methods and released heads alone."""
        methods = tuple(method for method in self.fusion.methods if method in heads) if self.fusion else ()
        fusion = self.fusion.restrict(methods) if self.fusion and methods else None
        return replace(self, fusion=fusion, absent=tuple(method for method in self.absent if method in heads))


def read_verdict(backbone: Backbone, digests: Mapping[str, str]) -> FusedVerdict:
    """The fusion of those heads that it was fitted with. digests: method or released head → SHA-256, of those that are present.

    A backbone without a verdict of its own gets the embedded one's, restricted to the pixel methods: their heads, and so
    their validation logits, are the same for every backbone. HeadError if a head is another than the verdict was fitted with.
    """
    path = find_heads(backbone).get("verdict")
    tensors, card = load_head(path or MODELS / EMBEDDED / "heads" / "verdict.safetensors")
    methods = tuple(card.details.get("heads", {}))
    expected = expected_card("verdict", backbone)
    check_card(card, expected if path else replace(expected, fingerprint=card.fingerprint))
    check_tensors(card, tensors, Fusion.shapes(len(methods), "sources" in tensors), missing=("logits", "band"))
    offered = methods if path else tuple(method for method in methods if method in PIXEL_METHODS)
    usable = tuple(method for method in offered if method in digests)
    for method in usable:
        if card.details["heads"][method] != digests[method]:
            raise HeadError(
                f"The verdict was fitted with another {method} head than there is now; fit it again with `python -m detector calibrate`."
            )
    fusion = Fusion.from_tensors(methods, tensors).restrict(usable) if usable else None
    return FusedVerdict(fusion, card, tuple(method for method in offered if method not in digests))


def read_reference(backbone: Backbone) -> Reference | None:
    """The reference images' features; None for a backbone on which no head was trained or calibrated."""
    path = find_heads(backbone).get("reference")
    if path is None:
        return None
    tensors, _ = read_file(path, "reference", backbone, lambda _: Reference.shapes(backbone.sizes))
    return Reference.from_tensors(tensors)
