"""Do captions, objects and boxes fit photographs? (docs/methods.md, 3)

Needs photographs with human captions that no training saw: the `test` split of the pairs folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from detector.clip.backbone import Backbone
from detector.clip.captioning import user_caption
from detector.clip.pretrain.data import Pairs, load_pairs
from detector.data.datasets import DataError
from detector.markdown import markdown_table
from detector.methods.item import localise
from detector.methods.item.alignment import Alignment, align, realign
from detector.methods.item.objects import find_objects

PHOTOGRAPHS = 400  # at most, with human captions
PASTES = 240  # pictures of one thing, pasted on each kind of background
CANVAS, SMALL, LARGE = 256, 90, 130  # pixels: side of the background, least and greatest side of what is pasted
THINGS = ("caltech101", "imagenette", "grocery_store", "tf_flowers")  # sources whose pictures show one named thing
SCENES = ("intel_scenes", "flickr8k", "houses")


# --- human captions ------------------------------------------------------------------------------------------------


def alignment_study(folders: Sequence[Path], backbone: Backbone, seeds: int) -> dict:
    """Human captions against those of other images, one object word against a wrong one, and boxes around pasted things, on `test`."""
    pairs = load_pairs(folders[0], "test")
    rows = [i for i, source in enumerate(pairs.sources) if source == "flickr8k"][:PHOTOGRAPHS]
    pictures, captions = [pairs.images[i] for i in rows], [pairs.captions[i] for i in rows]
    alignments = _alignments(backbone, pictures, [sentences[0] for sentences in captions])
    return {
        "photographs": len(rows),
        "seeds": seeds,
        "true_above_other": matching_share(alignments),
        "wrong_word_lower": [wrong_words(backbone, pictures, captions, alignments, seed) for seed in range(seeds)],
        "pasted": PASTES,
        "boxes": {kind: [localisation(backbone, pairs, kind, seed) for seed in range(seeds)] for kind in ("plain", "photograph")},
    }


def _alignments(backbone: Backbone, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> list[Alignment]:
    """One alignment for each picture and its caption."""
    alignments = []
    for picture, words in zip(pictures, captions, strict=True):
        prepared = backbone.prepare(picture)[None]
        alignments.append(align(backbone, [picture], prepared, backbone.encode(prepared), [user_caption(words)]))
    return alignments


def matching_share(alignments: Sequence[Alignment]) -> float:
    """Share of (image, caption of another image) pairs in which the image's caption has the larger cosine, 0 to 1; 0.5 is chance."""
    images, captions = (torch.cat([getattr(one, name) for one in alignments]) for name in ("image", "caption"))
    cosines = images @ captions.T
    others = ~torch.eye(len(alignments), dtype=torch.bool)
    return float((cosines.diag()[:, None] > cosines)[others].float().mean())


def wrong_words(
    backbone: Backbone, pictures: Sequence[np.ndarray], captions: Sequence[list[str]], alignments: Sequence[Alignment], seed: int
) -> dict[str, float]:
    """One object of each caption is replaced by a noun that no caption of the image has. "lower": share of images in which that
    object's score falls; "of": how many images had an object."""
    generator = np.random.default_rng(seed)
    candidates = [noun for sentences in captions for noun in find_objects(sentences[0])]
    falls = []
    for picture, sentences, before in zip(pictures, captions, alignments, strict=True):
        objects, nouns = before.readings[0].objects, {noun for words in sentences for noun in find_objects(words)}
        if objects:
            place = generator.integers(len(objects))
            wrong = next(noun for noun in generator.permutation(candidates) if noun not in nouns)
            names = [str(wrong) if i == place else thing.phrase for i, thing in enumerate(objects)]
            after = realign(backbone, picture, before, objects=names)
            falls.append(after.readings[0].objects[place].score < objects[place].score)
    return {"lower": float(np.mean(falls)), "of": len(falls)}


# --- things pasted on backgrounds ----------------------------------------------------------------------------------


def object_name(caption: str) -> str:
    """ "a photo of a tin can in a grocery store" → "tin can"."""
    match = re.search(r"(?:photo|picture|image|painting|drawing|cartoon) of (?:an? |the )?(.+?)(?: in a grocery store)?$", caption)
    return match.group(1) if match else caption


def paste(thing: np.ndarray, background: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, localise.Box]:
    """The thing's centre square, made SMALL to LARGE pixels wide, at a random place of the background; and that place."""
    side, (height, width) = int(generator.integers(SMALL, LARGE)), thing.shape[:2]
    shorter = min(height, width)
    y0, x0 = (height - shorter) // 2, (width - shorter) // 2
    square = cv2.resize(thing[y0 : y0 + shorter, x0 : x0 + shorter], (side, side), interpolation=cv2.INTER_AREA)
    x, y = (int(v) for v in generator.integers(0, CANVAS - side, 2))
    picture = background.copy()
    picture[y : y + side, x : x + side] = square
    return picture, (x, y, x + side, y + side)


def localisation(backbone: Backbone, pairs: Pairs, kind: str, seed: int) -> dict[str, float]:
    """PASTED things on a plain colour or on photographs. "hit": share of boxes whose centre lies on the thing, "overlap": mean
    intersection over union; "random_…": the same of a box of the same size at a random place."""
    generator = np.random.default_rng(seed)
    things = [i for i, source in enumerate(pairs.sources) if source in THINGS]
    scenes = [i for i, source in enumerate(pairs.sources) if source in SCENES]
    generic, rows = backbone.encode_text(list(localise.GENERIC)).mean(0), []
    for index in generator.permutation(things)[:PASTES]:
        plain = np.full((CANVAS, CANVAS, 3), generator.integers(0, 256, 3), np.uint8)
        scene = cv2.resize(pairs.images[generator.choice(scenes)], (CANVAS, CANVAS)) if kind == "photograph" else plain
        picture, truth = paste(pairs.images[index], scene, generator)
        patches = localise.patch_embeddings(backbone, backbone.encode(backbone.prepare(picture)[None]))
        if patches is None:
            raise DataError("This study needs a backbone with patch tokens, such as a vision transformer of CLIP.")
        text = backbone.encode_text([f"a photo of a {object_name(pairs.captions[index][0])}"])
        box = localise.box_of(localise.heatmap(patches[0], text, generic)[0], CANVAS, CANVAS)
        width, height = box[2] - box[0], box[3] - box[1]
        x, y = int(generator.integers(CANVAS - width + 1)), int(generator.integers(CANVAS - height + 1))
        rows.append([*_hits(box, truth), *_hits((x, y, x + width, y + height), truth)])
    return dict(zip(("hit", "overlap", "random_hit", "random_overlap"), np.mean(rows, axis=0).tolist(), strict=True))


def _hits(box: localise.Box, truth: localise.Box) -> tuple[float, float]:
    """Whether the box's centre lies inside the true one, and their intersection over union."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    inside = truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3]
    width, height = (max(0, min(box[i + 2], truth[i + 2]) - max(box[i], truth[i])) for i in (0, 1))
    return float(inside), width * height / (_area(box) + _area(truth) - width * height)


def _area(box: localise.Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def alignment_report(result: dict) -> str:
    """In words, then a table of the boxes."""
    falls, of = np.mean([r["lower"] for r in result["wrong_word_lower"]]), result["wrong_word_lower"][0]["of"]
    words = (
        f"On {result['photographs']} unseen photographs the human caption has a larger cosine than another photograph's in "
        f"{result['true_above_other']:.1%} of the pairs (chance 50 %). One object word replaced by a wrong one lowers that "
        f"object's score in {falls:.1%} of {of} photographs (mean of {result['seeds']} draws). Boxes for {result['pasted']} "
        "pictures of one thing pasted on a background, against boxes of the same size at random places:"
    )
    names = {"hit": "centre on the thing", "random_hit": "random box", "overlap": "intersection over union", "random_overlap": "random box"}
    rows = ([kind, *(f"{np.mean([draw[name] for draw in draws]):.3f}" for name in names)] for kind, draws in result["boxes"].items())
    return f"{words}\n\n{markdown_table(['background', *names.values()], rows)}"
