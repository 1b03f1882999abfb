"""A real server on loopback with the page as `python app.py` shows it."""

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The page, served by this process."""
    import os

    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    import app
    from interpret.examples import make_examples

    make_examples()
    demo = app.build_demo()
    app.open_queue(demo, **app.QUEUE)
    demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app.LAUNCH)
    yield demo
    demo.close()


@pytest.fixture(scope="session")
def server(demo) -> str:
    """Its address."""
    return demo.local_url.rstrip("/")
