"""interpret/panels/gpu.py: with and without the package `spaces`, and the forward that a ZeroGPU worker would do."""

import importlib
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from paths import ROOT

from interpret.panels import gpu


@pytest.fixture
def reloaded(monkeypatch):
    """Loads the module again beside a given `spaces` (None: there is no such package); afterwards as it was."""

    def load(spaces):
        monkeypatch.setitem(sys.modules, "spaces", spaces)  # None makes the import fail
        return importlib.reload(gpu)

    yield load
    monkeypatch.undo()
    importlib.reload(gpu)


def stand_in(calls: list):
    """A package `spaces` that notes every call and passes arguments and results as bytes, as a process of its own would."""

    def GPU(duration):
        def decorate(function):
            def run(*arguments, **options):
                calls.append((function.__name__, duration))
                return pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(arguments)), **options)))

            return run

        return decorate

    module = types.ModuleType("spaces")
    module.GPU = GPU
    return module


def test_without_the_package_nothing_is_wrapped(reloaded):
    module = reloaded(None)
    assert module.run_on_gpu(len) is len and module.forward.__module__ == "interpret.panels.gpu"


def test_without_zero_gpu_the_backbone_stays_as_it_is(reloaded, monkeypatch, suite):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    calls = []
    module = reloaded(stand_in(calls))
    module.lend(suite.backbone)
    assert module.page_device() is None and "encode" not in vars(suite.backbone) and not calls


def test_on_zero_gpu_the_forward_goes_through_the_package_and_gives_the_same(reloaded, monkeypatch, photographs, suite):
    from detector.clip.backbone import Backbone

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    calls = []
    module = reloaded(stand_in(calls))
    assert module.page_device() == "cpu"
    backbone = Backbone.load(device="cpu")
    images = torch.stack([backbone.prepare(photograph) for photograph in photographs])
    own = backbone.encode(images)
    module.lend(backbone)
    lent = backbone.encode(images)
    assert calls == [("forward", module.SECONDS)]
    np.testing.assert_allclose(lent.projected, own.projected, atol=1e-5)
    assert lent.patches.shape == own.patches.shape and lent.pooled.device.type == "cpu"


def test_a_suite_of_the_page_is_lent_and_analyses_as_ever(reloaded, monkeypatch, picture, suite):
    from interpret.panels import service

    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    calls = []
    module = reloaded(stand_in(calls))
    monkeypatch.setattr(service, "lend", module.lend)
    monkeypatch.setattr(service, "_suites", {})
    record, _ = service.analyze(picture)
    assert calls and record["verdict"]["logit"] == pytest.approx(suite.analyze(picture).to_dict()["verdict"]["logit"], abs=1e-4)


def test_the_page_is_built_without_loading_torch_for_it():
    done = subprocess.run(
        [sys.executable, "-c", "import interpret.panels.gpu, sys; assert 'torch' not in sys.modules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "SPACES_ZERO_GPU"},
    )
    assert done.returncode == 0, done.stderr
