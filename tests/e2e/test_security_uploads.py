"""What a stranger sends to a real server: more files than it may hold."""

import os
import time
from pathlib import Path

import httpx
from strangers import REST, answer, is_one_sentence, png

from interpret.panels.limits import FULL, MAX_FILES, TOO_MUCH
from interpret.panels.uploads import NAME, SIX_HOURS

# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_holds_few_files_and_is_not_larger_than_one_may_be(url, folder):
    many = httpx.post(f"{url}/gradio_api/upload", files=[("files", (f"{i}.png", b"many" + i.to_bytes(2))) for i in range(MAX_FILES + 1)])
    assert many.status_code == 413 and many.text == TOO_MUCH

    def endless():
        for index in range(8):
            yield f'\r\n--a\r\nContent-Disposition: form-data; name="files"; filename="{index}.png"\r\n\r\n'.encode()
            for _ in range(40):
                yield bytes(2**20)

    kind = {"content-type": "multipart/form-data; boundary=a"}
    large = httpx.post(f"{url}/gradio_api/upload", content=endless(), headers=kind, timeout=60)
    assert large.status_code == 413 and large.text == TOO_MUCH
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]  # no halves stay
    some = httpx.post(f"{url}/gradio_api/upload", files=[("files", (f"{i}.png", b"some" + i.to_bytes(2))) for i in range(MAX_FILES)])
    assert len(some.json()) == MAX_FILES


def test_uploads_beyond_the_budget_are_refused_before_they_are_taken(start, tmp_path):
    url, _ = start(CUESCOPE_UPLOADS_MB="2", CUESCOPE_UPLOADS_FILES="40")
    folder = tmp_path / "uploads" / NAME

    def send(data: bytes) -> httpx.Response:
        return httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", data)}, timeout=60)

    old = folder / ("ab" * 32) / "old.png"
    assert send(bytes(2**20)).status_code == 200
    old.parent.mkdir()
    old.write_bytes(bytes(2**20))
    time.sleep(2.5)  # until the size of the folder is measured again
    full = send(b"1" * 2**19)
    assert full.status_code == 507 and full.text == FULL and is_one_sentence(FULL)
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]
    os.utime(old, (0, 0))
    time.sleep(2.5)
    assert send(b"1" * 2**19).status_code == 200 and not old.exists()  # swept to make room


def test_what_a_former_run_left_is_gone_after_a_start(start, tmp_path):
    folder, then = tmp_path / "uploads" / NAME, time.time() - SIX_HOURS - 60
    left = [folder / ("ab" * 32) / "a.png", folder / "taken" / ("ab" * 32) / "report.html", folder / "deep_links" / "a" / "state.json"]
    for path in left:
        for name, written in ((path, then), (path.with_name("young"), then + 3600)):
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes(b"left")
            os.utime(name, (written, written))
    url, _ = start()
    end = time.monotonic() + 60
    while any(path.exists() for path in left) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(path.exists() for path in left) and all(path.with_name("young").exists() for path in left)
    (path,) = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", png())}).json()
    assert folder in Path(path).parents and '"error": null' in answer(url, "analyze", [{"path": path}, *REST])
