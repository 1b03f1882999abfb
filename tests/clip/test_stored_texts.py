"""Embeddings of fixed lists of texts: computed once for the same weights, replaced when damaged, never written for the embedded model."""

import pytest
import torch
from tiny import write_tiny

from detector.assets import EMBEDDED
from detector.clip.backbone import Backbone
from detector.clip.captioning import noun_embeddings
from detector.clip.stored_texts import encode_fixed
from detector.methods.concepts.head import concept_directions

TEXTS = ["a dog", "a cat", "a tree"]


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "home"))
    return Backbone.load(str(write_tiny(tmp_path / "tiny")))


def never(*arguments):
    raise AssertionError("encoded again")


def stored(tmp_path):
    return sorted((tmp_path / "home").rglob("*.safetensors"))


def test_a_list_is_encoded_once_for_the_same_weights(backbone, tmp_path, monkeypatch):
    first = encode_fixed(backbone, "animals", TEXTS)
    assert [path.parent.name for path in stored(tmp_path)] == [backbone.fingerprint]
    other = Backbone.load(backbone.name)  # as after a restart
    monkeypatch.setattr(other, "encode_text", never)
    assert torch.equal(encode_fixed(other, "animals", TEXTS), first)
    with pytest.raises(AssertionError, match="encoded again"):
        encode_fixed(other, "animals", TEXTS[:2])  # another list


def test_nouns_and_concepts_come_from_there(backbone, tmp_path, monkeypatch):
    directions, nouns = concept_directions(backbone), noun_embeddings(backbone)
    assert {path.name.partition("-")[0] for path in stored(tmp_path)} == {"concepts", "nouns"}
    monkeypatch.setattr(backbone, "encode_text", never)
    assert torch.equal(concept_directions(backbone), directions) and torch.equal(noun_embeddings(backbone), nouns)


def test_a_damaged_file_is_replaced(backbone, tmp_path):
    first = encode_fixed(backbone, "animals", TEXTS)
    (path,) = stored(tmp_path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert torch.equal(encode_fixed(backbone, "animals", TEXTS), first) and path.read_bytes() != bytes(data)


def test_the_embedded_model_writes_nothing_and_a_folder_that_cannot_be_written_is_no_error(backbone, tmp_path, monkeypatch, capsys):
    expected = backbone.encode_text(TEXTS)
    name, backbone.name = backbone.name, EMBEDDED
    assert torch.equal(encode_fixed(backbone, "animals", TEXTS), expected) and not stored(tmp_path)
    backbone.name = name
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CUESCOPE_HOME", str(tmp_path / "file"))
    assert torch.equal(encode_fixed(backbone, "animals", TEXTS), expected)
    assert "cannot be kept" in capsys.readouterr().err
