"""A real server on loopback with the page as `python app.py` shows it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gradio_client import Client
from paths import ROOT
from strangers import analyse

from interpret.panels.queueing import finish_jobs
from interpret.panels.uploads import NAME


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Every test here needs a server or a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The page, served by this process."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    import app
    from interpret.examples import make_examples

    make_examples()
    demo = app.build_demo()
    app.open_queue(demo, **app.QUEUE)
    demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app.LAUNCH)
    yield demo
    demo.close()
    finish_jobs()


@pytest.fixture(scope="session")
def server(demo) -> str:
    """Its address."""
    return demo.local_url.rstrip("/")


class Servers:
    """Starts `python app.py` in processes of its own, on free ports."""

    def __init__(self):
        self.processes = []

    def start(self, folder: Path, **variables) -> tuple[str, Path]:
        """The page's address and its log, in `folder`, where its uploads go too; variables: more of its environment."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = folder / "log.txt"
        own = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
        with log.open("w") as output:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "app.py"], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ | own | variables
                )
            )
        self._wait_for(port, log)
        return f"http://127.0.0.1:{port}", log

    def _wait_for(self, port: int, log: Path) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert self.processes[-1].poll() is None, log.read_text()
            time.sleep(0.2)
        raise AssertionError(log.read_text())

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start(tmp_path):
    """Starts the page with further environment variables; gives its address and its log."""
    servers = Servers()
    yield lambda **variables: servers.start(tmp_path, **variables)
    servers.stop()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A server in a process of its own for one file of tests: its address, its process, and the folder of its uploads."""
    servers, folder = Servers(), tmp_path_factory.mktemp("own")
    url, _ = servers.start(folder)
    yield url, servers.processes[0], folder / "uploads"
    servers.stop()


@pytest.fixture(scope="module")
def url(own_server) -> str:
    return own_server[0]


@pytest.fixture(scope="module")
def folder(own_server) -> Path:
    return own_server[2] / NAME


@pytest.fixture(scope="module")
def client(server):
    """A visitor of the server that all files of tests share."""
    client = Client(server, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def own_client(url):
    """A visitor of the file's own server, with a picture open."""
    client = Client(url, verbose=False)
    analyse(client)
    yield client
    client.close()
