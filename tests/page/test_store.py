"""What sessions share: one store, bounded by bytes, in which nobody meets another's image."""

import pickle

import cv2
import gradio as gr
import numpy as np
import pytest
import torch

from interpret.panels import service
from interpret.panels.store import Store, new_key, size_of


def test_the_least_recently_used_leaves_first():
    store = Store(4000)
    for name in "abc":
        store.get(name, lambda: np.zeros(1000, np.uint8))
    store.get("a", lambda: pytest.fail("it is here"))
    store.put("d", np.zeros(1000, np.uint8))
    assert len(store) == 3 and store.size <= store.limit
    made = [store.get(name, lambda: "made again") for name in "acdb"]
    assert [isinstance(value, str) for value in made] == [False, False, False, True]


def test_what_is_larger_than_the_store_is_given_but_not_kept():
    store = Store(1000)
    store.put("small", b"x")
    assert store.get("large", lambda: np.ones(2000, np.uint8)).size == 2000
    assert len(store) == 1 and store.get("large", lambda: "made again") == "made again"


def test_a_value_put_again_is_counted_once():
    store = Store(10_000)
    for _ in range(50):
        store.put("a", np.zeros(1000, np.uint8))
    assert len(store) == 1 and 1000 < store.size < 2000


def test_an_error_is_not_kept():
    store = Store(1000)
    with pytest.raises(ZeroDivisionError):
        store.get("a", lambda: 1 // 0)
    assert store.get("a", lambda: 1) == 1


def test_sizes_are_of_the_memory_behind():
    base = np.zeros(10**6, np.uint8)
    assert 10**6 < size_of(base[:10]) < 1.01 * 10**6  # a view holds all of it
    assert 4 * 10**6 <= size_of(torch.zeros(10**6)[:3]) < 4.01 * 10**6
    assert 2 * 10**6 < size_of({"a": [base, base.copy()], "b": (base,)}) < 2.01 * 10**6  # what is there twice is counted once


@pytest.fixture
def tiny_store(monkeypatch):
    """A store that holds one small analysis and no more."""
    store = Store(700_000)
    monkeypatch.setattr(service, "STORE", store)
    return store


@pytest.fixture
def two(tmp_path, photographs):
    paths = [tmp_path / "first.png", tmp_path / "second.png"]
    for path, image in zip(paths, photographs, strict=True):
        cv2.imwrite(str(path), image[:200, :200, ::-1])
    return [str(path) for path in paths]


@pytest.mark.slow
def test_sessions_never_mix_while_the_store_forgets(tiny_store, two):
    expected = [service.analyze(path)[0]["physical"] for path in two]
    sessions = [(path, service.analyze(path)[1]) for path in two * 3]
    assert len(tiny_store) < len(sessions) and tiny_store.size <= tiny_store.limit
    for path, seen in sessions * 2:
        number = two.index(path)
        assert seen.record["physical"] == pytest.approx(expected[number])
        assert np.array_equal(service.photo_of(seen).pixels[..., ::-1], cv2.imread(path))


def test_a_session_holds_little(two):
    _, seen = service.analyze(two[0])
    assert len(pickle.dumps(seen)) < 1000
    assert service.analyze(two[0])[1].key != seen.key and len({new_key() for _ in range(100)}) == 100


def test_an_upload_that_was_deleted_gets_one_sentence(tiny_store, two, tmp_path):
    _, seen = service.analyze(two[0])
    service.analyze(two[1])  # takes its place in the store
    (tmp_path / "first.png").unlink()
    for ask in (lambda: seen.record, lambda: seen.evidence, lambda: service.photo_of(seen)):
        with pytest.raises(gr.Error) as error:
            ask()
        assert error.value.message == service.GONE and "/" not in service.GONE
