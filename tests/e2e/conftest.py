"""A real server on loopback with the page as `python app.py` shows it."""

import pytest


def add_sdd_head() -> None:
    """Give the page's suite an sdd head with random weights where none is shipped."""
    import torch

    from detector.sdd import Sdd, SddConfig, SddHead, normalisation
    from interpret.tabs.service import get_suite

    suite = get_suite()
    if "sdd" not in suite.heads:
        torch.manual_seed(0)
        visual = suite.backbone.model.visual
        model = Sdd(visual, SddConfig(bag=8), torch.randn(8, visual.conv1.out_channels)).eval().requires_grad_(False)
        suite.heads["sdd"] = SddHead(model, normalisation(suite.backbone))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    import os

    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    import app
    from interpret.examples import make_examples

    make_examples()
    add_sdd_head()
    demo = app.build_demo()
    demo.queue(**app.QUEUE)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app.LAUNCH)
    yield url
    demo.close()
