"""Which concepts a head of a small set uses: those whose activations go with its logit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from detector.clip.backbone import Backbone, ClipFeatures

SHOWN = 12


class ConceptUse(NamedTuple):
    """One concept. pole: the phrase that goes with a higher logit. strength: the share of the concept in the difference of the two classes'
    mean logits, or the correlation of its activation with the logit, −1 to 1; always towards `pole`, so above 0."""

    name: str
    pole: str
    strength: float


def concepts_used(head: Any, clip: ClipFeatures, labels: np.ndarray, backbone: Backbone) -> list[ConceptUse]:
    """The `SHOWN` concepts that a head uses most. [] where the backbone reads no text.

    Of a concept head: mean contribution over the synthetic images minus that over the real ones, in logits. Of the others: the Pearson
    correlation of the concept's activation with the logit, over the images.
    """
    if not backbone.reads_text:
        return []
    from detector.clip.vocabulary import vocabulary
    from detector.methods.concepts.head import ConceptHead, concept_directions
    from detector.methods.orthogonal.naming import correlations

    words = vocabulary()
    if isinstance(head, ConceptHead):
        contributions, slopes = head.contributions(clip.projected).numpy(), head.weight.numpy()
        values = contributions[labels == 1].mean(0) - contributions[labels == 0].mean(0)
        signs = np.sign(slopes)
    else:
        activations = clip.projected / clip.projected.norm(dim=1, keepdim=True) @ concept_directions(backbone).T.cpu()
        values = correlations(head.logits(clip.pooled).numpy()[:, None], activations.numpy())[0]
        signs = np.sign(values)
    order = np.argsort(-np.abs(values), kind="stable")[:SHOWN]
    return [ConceptUse(words[i].name, words[i].positive if signs[i] > 0 else words[i].negative, float(abs(values[i]))) for i in order]
