"""The texts of the page: what it is, and how each panel works."""

import json
from functools import cache
from pathlib import Path

from detector.assets import EMBEDDED, MODELS
from detector.detectors.measured import IN_WORDS, in_words
from detector.evaluation.tables import text_gains

STUDIES, EVALUATION = MODELS / EMBEDDED / "studies.json", MODELS / EMBEDDED / "evaluation.json"
PIXEL_METHODS = ("physical", "residual")  # read no CLIP feature, so that their figures hold beside any backbone


@cache
def read_json(file: Path) -> dict:
    """A file of measured figures; {} where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def how_good(method: str, backbone: str | None = EMBEDDED, evaluation: Path = EVALUATION) -> str:
    """How far a method can be trusted, in one sentence from the measured figures; plain text.

    method: as in an analysis' "detectors", or "verdict". evaluation: the file that `python -m detector evaluate` writes.
    A method that was not measured there, such as a released head or one on another backbone, is said not to be.
    """
    results = read_json(evaluation).get("splits", {}) if backbone == EMBEDDED or method in PIXEL_METHODS else {}
    figures = in_words(results, method, "{auroc:.2f} [{auroc_95[0]:.2f} to {auroc_95[1]:.2f}]")
    if not figures:
        return "How good is this? Not measured by this project for this backbone: take it as a hint."
    return f"How good is this? AUROC {figures}, with 95 % intervals in brackets; 0.5 is chance, 1 perfect."


def text_gain(backbone: str = EMBEDDED, studies: Path = STUDIES) -> str:
    """What captions and objects in words add to ITEM over one mean text for all images, in one sentence; plain text.

    studies: the file that `python -m detector study item` writes. "" for a backbone that was not studied.
    """
    cells = read_json(studies).get("item", {}).get("cells", {}) if backbone == EMBEDDED else {}
    if not cells:
        return ""
    gaps = text_gains(cells, [split for split in IN_WORDS if split in cells["all"]])
    figures = ", ".join(f"{gap:+.3f} {IN_WORDS[split]}" for split, gap in gaps.items())
    added = "add nothing" if max(gaps.values()) <= 0 else "change little" if min(gaps.values()) <= 0 else "help"
    return f"On our data the words {added}: against one mean text for all images, AUROC changes by {figures}."


def about() -> str:
    """ABOUT, with what was measured on file formats."""
    if not STUDIES.is_file():
        return ABOUT
    studies = json.loads(STUDIES.read_text(encoding="utf-8"))
    return ABOUT + (f"\n**File formats.** {studies['format']['reading']}\n" if "format" in studies else "")


ABOUT = """
**What this is.** Cuescope shows *why* a detector built on CLIP calls an image AI-generated. It scores the very bytes that
you give it with several methods, fuses them into a calibrated verdict, and lays the evidence open.

**What the embedded model is.** A small CLIP that we trained from scratch on some 17,000 captioned images and on
photographic attributes. It is thousands of times smaller in data than the CLIP of the papers: it knows everyday things and
photographic style, not the world. The heads on it were trained on 5,012 images (up to 384 pixels on the long side, from
generators of 2017 to 2025).

**What it is not.** Not a proof, and not a judge of people. Newer generators, strong edits, screenshots and paintings can
all mislead it; a picture that was partly edited is not its subject. "Inconclusive" is an honest answer. The README lists
what was measured, on which images, with intervals.

**Papers.** [Physical descriptors](https://arxiv.org/abs/2604.04608) ·
[SynthCLIC: orthogonal head and concept model](https://arxiv.org/abs/2602.12381) ·
[ITEM: image against caption](https://arxiv.org/abs/2511.00427) ·
[SDD: heatmaps](https://arxiv.org/abs/2508.12341)
"""

HOW = {
    "methods": """Each method gives its own probability. The verdict is a logistic regression on their calibrated logits, fitted
on pictures whose source no head had seen, with no negative weight; a share above 0 pushes towards synthetic, "none" means that the
method added nothing to the others there. The shares and a constant add up to the verdict's logit exactly. Fusing them so is our
choice, not from a paper; what each method comes from stands with its panel.""",
    "descriptors": """Measured on the centre square at 256 pixels. The dot is this image; the scale is the percentile among real
reference images, so the blue band holds the middle half of them. Orange: the middle half and the median of synthetic
ones. ★ marks the core of five: four are named in [arXiv 2604.04608](https://arxiv.org/abs/2604.04608), the high-frequency
ratio is our choice. Where the two groups overlap, a descriptor says little by itself. "native": the same number over the whole
image at its own resolution; it depends on size, so no percentile is given. File format matters too: see the JPEG quality in
the verdict's card.""",
    "concepts": """A concept is a pair of opposites in words. Its direction in CLIP's space is the difference of the two phrases'
embeddings; the concept model ([arXiv 2602.12381](https://arxiv.org/abs/2602.12381)) multiplies how far the image lies along
it by a learned weight and a gate. The contributions of all concepts and a constant add up to its logit. Bars are named by
the pole that the image is nearer to. ✓ marks concepts that the embedded model was taught and tested on with edited
photographs; the other names rest on what its small text tower makes of the words.""",
    "units": """SynthCLIC's head ([arXiv 2602.12381](https://arxiv.org/abs/2602.12381)) looks at the image through eight decorrelated
directions; each contributes its activation times a weight, and the contributions add up exactly. Two names, each with its
strength: *follows* lists the concepts whose activation rises and falls with the unit's over the reference images
(correlation r); *spanned by* picks, one after another, the concepts whose directions explain most of what is left of the
unit's variance (summed up so far), in the manner of TextSpan ([arXiv 2310.05916](https://arxiv.org/abs/2310.05916)). A unit
is "unnamed" where both are no stronger than what the best of as many random directions reaches ("chance"). A name belongs to
this one training: with another random seed the units come out as other axes (the card has the figure), though the logit
hardly changes.""",
    "caption": """Generated images tend to match their captions less than photographs do: that is the idea of ITEM
([arXiv 2511.00427](https://arxiv.org/abs/2511.00427); its code is not public, so finding and placing the objects and the network
are choices of ours). The caption is written from the pixels alone. Its nouns, five at most, are looked for in the image: heat shows where
a patch is nearer to "a photo of a dog", say, than to "a photo of a thing", a box is drawn around the hottest part, and what
lies in it is cut out and encoded again. A cosine says how well words and picture agree, from −1 to 1; compare cosines of one
model only. The ITEM score is a small network on the differences. Such a network could do without the words, since the
picture is in the differences too; so the chart sets the score beside those of the same picture and objects with other images'
captions. A caption writer can be wrong, the small embedded one often is, and it knows English only: write a better caption and watch. The
image itself is not encoded again, and the verdict above stays that of the first caption.""",
    "probe": """A typed phrase becomes a direction in CLIP's space: the difference of its embedding and its opposite's (or that
of "A photograph"). The activation is the image's cosine with it; the percentile says how usual that is among the images that
the heads were validated on. Switching a unit or a concept off takes its contribution out of its head: the new logit is exact.
The last charts project the strongest directions out of the features, and as many random ones: grey, any direction; blue,
directions along which images do vary. Only where the orange line leaves the bands do the names matter more than chance.""",
    "heatmap": """SDD ([arXiv 2508.12341](https://arxiv.org/abs/2508.12341)) rebuilds the patch tokens of an image from tokens of real
images and looks harder where that fails. The map of windows moves a window across the picture and shows, at each place, the mean
logit of the windows around it: coarse, but made of the detector's own scores. The other maps multiply what a layer of it holds at a
place with the gradient of the logit there ([Grad-CAM](https://arxiv.org/abs/1610.02391),
[HiResCAM](https://arxiv.org/abs/2011.08891)), keep the sign, and average overlapping windows and their mirror images: a value of +2
reads "if the whole window looked like this place, the logit would be 2 higher", to first order. Orange speaks for synthetic, blue
for real. Colours are full at the same value for every image, measured on validation images, so an image without evidence stays clear.
The map of `residual` is made of the logits of its windows, and the map of tokens, where there is one, of SDD's token logits: their mean is
the method's logit. A third map is the smoothed mean of these two. "What stands out" sets each place against the rest of the picture. The
line outlines the strongest region. Whether a map points at the right place is measured, not assumed: we paste parts of synthetic images
into real ones and see whether the map finds them better than maps that know nothing do, and stays at chance where both parts are of one
origin; we blur what it points at; and we shuffle
the model's weights, after which the map must change. The sentence beside each map says what came out.""",
    "residual": """What is left when a picture's content is filtered away: sensor noise, demosaicing, upsampling and compression
leave different spectra. Read at the image's own resolution. "Scene statistics" ask, at a half to an eighth of it, whether contrast is
spread over the picture as in photographs. A method of our own, not from a paper.""",
    "stability": """Changed copies are made of the picture's own pixels, and each goes through all methods and the verdict like
an image of its own: JPEG 95 to 50, WebP 80, half, three quarters and one and a half times its size, a slight blur, its middle,
its mirror image. Read the chart from the top: a straight line down is a method that no change moves. The dots of the verdict are
orange for synthetic, blue for real, grey for no label; the grey field holds the probabilities for which the verdict gives none.
A flip means that the label hangs on traces that saving or sharing a picture destroys, not that the changed copy is judged
better. How much each change costs over many images stands in the cards of the methods. Choices, ours; no paper prescribes
them.""",
}
