"""Many files at once: what is taken, and what is refused before it is read."""

import io
import os
import struct
import zipfile

import pytest
from sets import archive, jpeg, pictures

from detector.data import collections
from detector.data.collections import ImageFile, allowed_folders, folder_files, read_collection
from detector.data.datasets import DataError

PICTURE = jpeg(pictures(1)[0])


def test_files_and_archives_in_their_order(tmp_path):
    packed = archive(
        tmp_path / "set.zip", {"set/real/a.jpg": PICTURE, "set/notes.txt": b"no", "__MACOSX/set/a.jpg": b"no", "set/.hidden.jpg": b"no"}
    )
    plain = tmp_path / "b.png"
    plain.write_bytes(PICTURE)
    files = read_collection([packed, plain])
    assert [file.name for file in files] == ["set/real/a.jpg", "b.png"]
    assert files[0].folder == "set/real" and files[0].label == 0 and files[1].label is None
    assert all(file.photo().width == 96 for file in files)


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        read_collection([path])
    assert "\n" not in str(caught.value) and str(path.parent) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:/a.jpg", "..\\a.jpg"])
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path, name):
    assert "outside itself" in refusal(archive(tmp_path / "a.zip", {"ok.jpg": PICTURE, name: PICTURE}))


def test_a_bomb_is_refused_without_being_unpacked(tmp_path, monkeypatch):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jpg", bytes(50_000_000))
    path = tmp_path / "bomb.zip"
    path.write_bytes(memory.getvalue())
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert "unpacks to far more" in refusal(path)


def test_a_member_is_read_up_to_the_size_of_an_image(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", {"a.jpg": PICTURE})
    monkeypatch.setattr(collections, "MAX_BYTES", 100)
    assert len(read_collection([path])[0].read()) == 101


def test_too_many_entries_are_counted_before_zipfile_reads_them(tmp_path, monkeypatch):
    path = tmp_path / "many.zip"
    path.write_bytes(b"PK\x01\x02" * (collections.MOST_MEMBERS + 1))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read"))
    assert "more than 10,000 files" in refusal(path)


def test_too_many_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(collections, "MOST_FILES", 2)
    assert refusal(archive(tmp_path / "a.zip", {f"{i}.jpg": b"" for i in range(3)})) == collections.TOO_MANY


def test_what_is_no_archive_and_what_is_encrypted(tmp_path):
    broken = tmp_path / "a.zip"
    broken.write_bytes(b"hello")
    assert "cannot be read" in refusal(broken)
    broken.write_bytes(b"")
    assert "cannot be read" in refusal(broken)
    data = bytearray(archive(tmp_path / "b.zip", {"a.jpg": PICTURE}).read_bytes())
    place = data.index(b"PK\x01\x02") + 8
    data[place : place + 2] = struct.pack("<H", 1)
    (tmp_path / "b.zip").write_bytes(data)
    assert "encrypted" in refusal(tmp_path / "b.zip")


def test_a_folder_gives_its_images_and_no_links_out_of_it(tmp_path):
    (tmp_path / "open" / "real").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(PICTURE)
    (tmp_path / "open" / "real" / "a.jpg").write_bytes(PICTURE)
    os.symlink(tmp_path / "secret.jpg", tmp_path / "open" / "link.jpg")
    os.symlink(tmp_path, tmp_path / "open" / "up")
    assert [file.name for file in folder_files(tmp_path / "open")] == ["open/real/a.jpg"]


def test_only_folders_that_the_operator_names_are_open(tmp_path):
    (tmp_path / "a").mkdir()
    assert allowed_folders({}) == {} and list(allowed_folders({"CUESCOPE_FOLDERS": f"{tmp_path / 'a'}:{tmp_path / 'none'}"})) == ["a"]


def test_a_file_that_is_gone_says_so(tmp_path):
    with pytest.raises(DataError, match="no longer there"):
        ImageFile("a.jpg", tmp_path / "a.jpg").read()
