"""Published heads: files and vocabularies that are refused, code in pickles that never runs."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from released_files import (
    CONCEPT,
    LINEAR,
    ONE_OF_EACH,
    REFERENCE,
    UNIVFD,
    Marker,
    as_bytes,
    checkpoint,
    needs_reference,
    packed,
    refusal,
    synthetic_state,
)

from detector.hub import download
from detector.methods import published
from detector.methods.published import NAMES, SOURCES, PublishedError, fetch, load

# --- files that are refused ----------------------------------------------------------------------------------------


def test_unknown_name_lists_the_names(tmp_path: Path) -> None:
    for call in (lambda: load("clip-cues/nothing"), lambda: fetch("../../etc/passwd", tmp_path)):
        assert all(name in refusal(call) for name in NAMES)


def test_missing_and_oversized_files(tmp_path: Path) -> None:
    assert "not a file" in refusal(lambda: load(UNIVFD, tmp_path / "absent.pth"))
    assert "not a file" in refusal(lambda: load(UNIVFD, tmp_path))
    large = tmp_path / "large.pth"
    with open(large, "wb") as file:
        file.truncate(published.LARGEST_FILE + 1)
    assert "16 MiB" in refusal(lambda: load(UNIVFD, large))


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04" + bytes(64), b"<html>not a head</html>", bytes(4096)])
def test_not_a_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.ckpt"
    path.write_bytes(content)
    assert "damaged" in refusal(lambda: load(LINEAR, path))


def test_truncated_local_file(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, CONCEPT)
    path.write_bytes(path.read_bytes()[:-1000])
    refusal(lambda: load(CONCEPT, path))


def test_archive_that_would_grow_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(published.LARGEST_FILE + 1))
    assert path.stat().st_size < published.LARGEST_FILE
    assert "unpacks" in refusal(lambda: load(LINEAR, path))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_wrong_layouts(name: str, tmp_path: Path) -> None:
    state = synthetic_state(name)
    first = next(iter(state))
    spoilt = {
        "missing": {key: value for key, value in state.items() if key != first},
        "does not have": state | {"extra": torch.zeros(1)},
        "shape": state | {first: state[first][:, 1:]},
        "not finite": state | {first: state[first].index_fill(1, torch.tensor([3]), float("nan"))},
        "floating-point": state | {first: state[first].to(torch.int32)},
        "is missing": state | {first: state[first].tolist()},
        "table of tensors": list(state.values()),
    }
    for words, content in spoilt.items():
        path = checkpoint(tmp_path, name, packed(name, content))
        message = refusal(lambda path=path: load(name, path))
        assert words in message and name in message


def test_not_finite_after_conversion(tmp_path: Path) -> None:
    state = {key: value.double() for key, value in synthetic_state(LINEAR).items()}
    path = checkpoint(tmp_path, LINEAR, packed(LINEAR, state))
    np.testing.assert_allclose(load(LINEAR, path).bias, list(state.values())[1][0], rtol=1e-6)
    list(state.values())[1][0] = 1e300
    assert "not finite" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, packed(LINEAR, state))))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_another_heads_file_is_refused(name: str, tmp_path: Path) -> None:
    for other in ONE_OF_EACH:
        if other != name:
            path = checkpoint(tmp_path, other)
            refusal(lambda path=path: load(name, path))


def test_wrong_wrapping(tmp_path: Path) -> None:
    state = synthetic_state(LINEAR)
    assert "state_dict" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, state)))
    assert "state_dict" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, [1, 2])))
    mislabelled = {"state_dict": state, "model_type": "concept"}
    assert "model_type" in refusal(lambda: load(LINEAR, checkpoint(tmp_path, LINEAR, mislabelled)))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_pickled_code_never_runs_from_a_local_file(save: Callable, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "hostile.ckpt"
    for content in (Marker(marker), packed(LINEAR, synthetic_state(LINEAR) | {"extra": Marker(marker)})):
        save(content, path)
        assert "none of which was run" in refusal(lambda: load(LINEAR, path))
        assert not marker.exists()
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()  # the pickle does bite where it is loaded carelessly


def test_pickled_code_never_runs_even_when_it_is_pinned(publish: Callable, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    publish(LINEAR, as_bytes(packed(LINEAR, Marker(marker))))
    assert "none of which was run" in refusal(lambda: load(LINEAR))
    assert not marker.exists()


# --- vocabulary of the concept heads ---------------------------------------------------------------------------------


@needs_reference
def test_vocabulary_is_the_pinned_file_and_has_a_row_for_each_direction() -> None:
    file = REFERENCE / "clip-cues" / "antonyms.csv"
    assert download.is_pinned(published.VOCABULARY, file.read_bytes())
    words = published.concept_vocabulary(file)
    assert len(words) == len(load(CONCEPT, REFERENCE / "clip-cues" / "cm_antonyms_combined.ckpt").head.directions) == 168
    assert words[0].name == "saturation" and words[0].positive_prompt.startswith("A photograph")


def test_vocabulary_with_other_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "words.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(PublishedError, match="columns"):
        published.concept_vocabulary(file)


def test_present_names_only_what_is_in_the_cache(publish: Callable) -> None:
    assert published.present(SOURCES[UNIVFD].backbone) == []
    publish(UNIVFD)
    fetch(UNIVFD)
    assert published.present(SOURCES[UNIVFD].backbone) == [UNIVFD]
    assert published.present("embedded") == []
