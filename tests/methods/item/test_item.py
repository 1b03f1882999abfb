"""ITEM: alignment by hand, hostile captions, editing without another forward, the head, its controls, and what may go in."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import write_tiny

from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import Caption, user_caption
from detector.evaluation.studies.item import control_inputs, control_report, controls, with_mean_text, with_shuffled_text, without_objects
from detector.methods.base import Evidence, HeadCard, HeadError, load_head, save_head
from detector.methods.item import alignment as item
from detector.methods.item.alignment import Alignment, align, caption_rank, extract_alignment, from_arrays, realign, record
from detector.methods.item.head import ItemHead, null_scores
from detector.methods.item.train import ItemRecipe, fit_item

QUICK = ItemRecipe(hidden=32, epochs=25, patience=25)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Backbone.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def pixels():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, size, dtype=np.uint8) for size in ((40, 50, 3), (64, 40, 3), (33, 33, 3))]


def aligned(backbone, pixels, captions=None):
    images = torch.stack([backbone.prepare(one) for one in pixels])
    return align(backbone, pixels, images, backbone.encode(images), captions)


def unit(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def by_hand() -> Alignment:
    """Two images in the plane: one with two objects, one with none."""
    crops, phrases = torch.zeros(2, 5, 2), torch.zeros(2, 5, 2)
    crops[0, :2], phrases[0, :2] = unit([1, 0], [0, 1]), unit([0, 1], [0, 1])
    return Alignment(unit([1, 0], [0, 1]), unit([3, 4], [0, 1]), crops, phrases, torch.tensor([2, 0]))


# --- measuring -----------------------------------------------------------------------------------------------------


def test_deltas_and_summary_by_hand():
    alignment = by_hand()
    torch.testing.assert_close(alignment.summary, torch.tensor([[0.6, 0.5, 0.0, 0.4], [1.0, 1.0, 1.0, 0.0]]))
    torch.testing.assert_close(alignment.local, torch.tensor([[0.5, -0.5], [0.0, 0.0]]))
    torch.testing.assert_close(alignment.inputs[0], torch.tensor([0.4, -0.8, 0.5, -0.5, 0.6, 0.5, 0.0, 0.4]))


def test_alignment_is_what_its_parts_say(tiny, pixels):
    """Each crop and text encoded by itself gives the numbers of the batch."""
    captions = [user_caption(text) for text in ("a dog on a beach", "a cat", "blue and green")]
    alignment = aligned(tiny, pixels, captions)
    assert alignment.count.tolist() == [2, 1, 0]
    assert [o.phrase for o in alignment.readings[0].objects] == ["dog", "beach"]
    first = alignment.readings[0].objects[1]
    cut = F.normalize(tiny.encode(tiny.prepare(item.crop(pixels[0], first.box))[None]).projected, dim=1)[0]
    text = tiny.encode_text(["a photo of a beach"])[0]
    assert first.score == pytest.approx(float(cut @ text), abs=1e-5)
    torch.testing.assert_close(alignment.crops[0, 1] - alignment.phrases[0, 1], cut - text, rtol=0, atol=1e-5)
    torch.testing.assert_close(alignment.caption, tiny.encode_text([c.text for c in captions]))
    assert first.heat.shape == (4, 4) and record(alignment)["objects"][1]["box"] == list(first.box)


def test_captions_are_made_where_none_is_given(tiny, pixels, monkeypatch):
    asked = []

    def made(backbone, pictures, images, features):
        asked.append(len(images))
        assert len(features) == len(images)
        return [Caption("a dog and a cat", backbone.name)] * len(images)

    monkeypatch.setattr(item, "caption", made)
    alignment = aligned(tiny, pixels, [None, user_caption("a horse"), None])
    assert asked == [2] and [r.caption.source for r in alignment.readings] == [tiny.name, "user", tiny.name]


HOSTILE = [
    "",
    "word " * 2000,
    "собака на пляже",
    "犬が海辺を走る",
    "<script>alert(1)</script> a dog",
    "\x00\u202e a dog",
    "👍",
    "dog cat horse bird car bus train boat tree house " * 3,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_captions_give_numbers_or_nothing(tiny, pixels, text):
    written = user_caption(text)
    alignment, again = (aligned(tiny, pixels[:1], [written]) for _ in range(2))
    assert torch.equal(alignment.inputs.nan_to_num(), again.inputs.nan_to_num())
    assert bool(alignment.usable) == bool(written.text) == bool(alignment.inputs.isfinite().all())
    assert 0 <= int(alignment.count) <= 5


def test_without_a_caption_there_is_no_score_but_the_others_stay(tiny, pixels):
    alignment = aligned(tiny, pixels, [user_caption("a dog"), Caption("", "embedded"), user_caption("a cat")])
    logits = random_head(24).logits(alignment)
    assert logits.isnan().tolist() == [False, True, False]
    assert record(alignment, 1) == {"caption": "", "caption_source": "embedded", "global": None, "objects": []}
    assert caption_rank(alignment, torch.ones(3, 24), 1) is None


def test_editing_does_not_encode_the_image_again(tiny, pixels, monkeypatch):
    before = aligned(tiny, pixels[:1], [user_caption("a dog on a beach")])
    whole, encode, seen = aligned(tiny, pixels[:1], [user_caption("a cat on a beach")]), tiny.encode, []

    def counted(images, **options):
        seen.append(len(images))
        return encode(images, **options)

    monkeypatch.setattr(tiny, "encode", counted)
    edited = realign(tiny, pixels[0], before, user_caption("a cat on a beach"))
    assert seen == [2]  # the two crops
    torch.testing.assert_close(edited.inputs, whole.inputs)
    listed = realign(tiny, pixels[0], edited, objects=["red ball"])
    assert [o.phrase for o in listed.readings[0].objects] == ["red ball"]
    assert listed.readings[0].caption == edited.readings[0].caption
    assert torch.equal(listed.caption, edited.caption)
    assert not realign(tiny, pixels[0], edited, objects=[]).readings[0].objects
    assert len(realign(tiny, pixels[0], edited, objects=[str(i) for i in range(20)]).readings[0].objects) == 5


def test_towers_without_patches_look_at_the_whole_image(tiny, pixels):
    images = torch.stack([tiny.prepare(one) for one in pixels[:1]])
    features = tiny.encode(images)
    bare = ClipFeatures(features.pooled, features.projected, None)
    alignment = align(tiny, pixels[:1], images, bare, [user_caption("a dog")])
    assert alignment.readings[0].objects[0].box == (0, 0, 50, 40) and alignment.readings[0].objects[0].heat is None


def test_rank_by_hand():
    others = unit([1, 0], [0, 1], [3, 5], [1, 1])  # cosines with the first image 1, 0, 0.51, 0.71; its own 0.6
    assert caption_rank(by_hand(), others) == 0.5


# --- only pixels and the user's words ------------------------------------------------------------------------------


def test_nothing_but_pixels_and_the_users_words_can_come_in():
    """No argument through which a label, a file name, metadata or a generator's prompt could come."""
    assert list(inspect.signature(align).parameters) == ["backbone", "pixels", "images", "features", "captions"]
    assert list(inspect.signature(extract_alignment).parameters) == ["backbone", "groups"]


def test_training_captions_know_neither_name_nor_label_nor_metadata(tiny, tmp_path):
    """The same pixels under both labels, with telling names, a prompt in the file's text chunks and in its EXIF: the same arrays."""
    from PIL import Image, PngImagePlugin

    from detector.data.images import load_photo

    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("parameters", "a castle on a hill, synthetic, label 1")
    exif[270] = "a castle on a hill"  # ImageDescription
    for folder in ("real", "synthetic"):
        (tmp_path / folder).mkdir()
    picture.save(tmp_path / "real" / "x.png")
    picture.save(tmp_path / "synthetic" / "a_castle_on_a_hill.png", pnginfo=info, exif=exif)
    plain, told = (extract_alignment(tiny, [[load_photo(path).pixels]]) for path in sorted(tmp_path.rglob("*.png")))
    assert all(np.array_equal(plain[name], told[name], equal_nan=name != "texts") for name in plain)


# --- the head ------------------------------------------------------------------------------------------------------


def random_head(width: int) -> ItemHead:
    generator = torch.Generator().manual_seed(0)
    count = 2 * width + 4
    return ItemHead(
        torch.ones(count),
        torch.zeros(count),
        torch.randn(8, count, generator=generator),
        torch.zeros(8),
        torch.randn(8, generator=generator),
        torch.tensor(0.2),
    )


def planted(count: int = 400, seed: int = 0, sure: float = 1.0) -> tuple[Alignment, torch.Tensor]:
    """Synthetic images lie away from their captions, in any direction: only image and text together tell the classes apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % 2).float()
    text = F.normalize(torch.randn(count, 16, generator=generator), dim=1)
    noise = torch.randn(count, 16, generator=generator)
    image = F.normalize(text + noise * (0.05 + 0.4 * sure * labels[:, None]), dim=1)
    zeros = torch.zeros(count, 5, 16)
    crops, phrases = zeros.clone(), zeros.clone()
    crops[:, 0], phrases[:, 0] = image, text
    return Alignment(image, text, crops, phrases, torch.ones(count, dtype=torch.long)), labels


def auroc(labels, logits):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(labels, logits)


def test_the_head_learns_misalignment_and_repeats():
    train, val, test = planted(), planted(seed=1), planted(seed=2)
    head = fit_item(train, val, recipe=QUICK)
    assert auroc(test[1], head.logits(test[0])) > 0.9
    assert torch.equal(head.logits(test[0]), fit_item(train, val, recipe=QUICK).logits(test[0]))


def test_controls_tell_what_the_words_are_worth():
    """The class is planted in image against text only: without the words, or with another's, nothing is left."""
    train, val, test = planted(), planted(seed=1), planted(seed=2)
    result = controls(train, val, {"test": test}, seeds=1, recipe=QUICK)
    auc = {name: found["test"][0] for name, found in result.items()}
    assert auc["all"] > 0.9 and auc["global only"] > 0.9 and auc["cosines only"] > 0.9
    assert max(auc[name] for name in ("image only: mean caption, no objects", "image and crops: mean texts", "shuffled captions")) < 0.65
    assert list(result["all"]) == ["val", "test"] and "| all | " in control_report(result)


def test_images_without_a_caption_do_not_spoil_training():
    (alignment, labels), val = planted(), planted(seed=1)
    caption = alignment.caption.clone()
    caption[:50] = torch.nan
    head = fit_item((Alignment(alignment.image, caption, alignment.crops, alignment.phrases, alignment.count), labels), val, recipe=QUICK)
    assert all(value.isfinite().all() for value in head.tensors().values())


def test_changes_by_hand():
    alignment = by_hand()
    assert torch.equal(without_objects(alignment).summary[:, 1], alignment.cosine)
    same = with_mean_text(alignment, unit([0, 1])[0], unit([1, 0])[0])
    torch.testing.assert_close(same.summary, torch.tensor([[0.0, 0.5, 0.0, 0.4], [1.0, 1.0, 1.0, 0.0]]))
    shuffled = with_shuffled_text(alignment, 0)
    assert shuffled.count.max() <= 2 and set(map(tuple, shuffled.caption.tolist())) == set(map(tuple, alignment.caption.tolist()))
    assert set(control_inputs(alignment, 0)) >= {"all", "global only", "shuffled captions"}


def test_null_scores_hold_the_own_caption_where_it_is_among_them():
    alignment, _ = planted(20)
    head = random_head(16)
    null = null_scores(alignment, head, alignment.caption, 3)
    assert null.shape == (20,) and null[3] == pytest.approx(float(head.logits(alignment)[3]), abs=1e-5)
    assert null.std() > 0


def test_scaling_scales_the_logit():
    alignment, _ = planted(20)
    head = random_head(16)
    torch.testing.assert_close(head.scaled(2.0, -1.0).logits(alignment), 2 * head.logits(alignment) - 1)


def test_evidence_without_alignment_is_refused_and_with_it_scored():
    alignment, _ = planted(4)
    clip, nothing = ClipFeatures(alignment.image, alignment.image, None), np.zeros((4, 15))
    with pytest.raises(HeadError, match="alignment"):
        random_head(16).score(Evidence(clip, nothing, nothing))
    assert random_head(16).score(Evidence(clip, nothing, nothing, alignment=alignment)).logit.shape == (4,)


def test_heads_and_features_round_trip(tmp_path, tiny, pixels):
    head, card = random_head(24), HeadCard("item", "tiny", "abc", "projected", "as is", "made up", "none")
    save_head(tmp_path / "item.safetensors", head.tensors(), card)
    alignment = aligned(tiny, pixels)
    np.savez(tmp_path / "kept.npz", **extract_alignment(tiny, [pixels[:2], pixels[2:]]))
    with np.load(tmp_path / "kept.npz") as kept:
        read = from_arrays(dict(kept))
    loaded = ItemHead.from_tensors(load_head(tmp_path / "item.safetensors")[0])
    torch.testing.assert_close(loaded.logits(read), head.logits(alignment), rtol=0, atol=0.02, equal_nan=True)
    assert torch.equal(read.count, alignment.count)
