"""Every kind of place: which inputs it has, and what is known of them."""

import io
import json
import tarfile

import pytest

from detector.scale.items import Picture, batches
from detector.scale.places import shards

pa = pytest.importorskip("pyarrow", reason="needs the extra [scale]")


def items(*places, **options):
    return [item for shard in shards([str(place) for place in places], 4, **options) for item in shard.items()]


def test_a_folder_gives_each_picture_once_with_class_and_source(pictures):
    found = items(pictures, pictures)
    assert len(found) == 24 and len({item.key for item in found}) == 24
    assert {(item.truth, item.source) for item in found} == {(t, f"source-{s}") for t in (0, 1) for s in range(3)}
    assert all(len(item.digest) == 64 for item in found)


def test_globs_and_lists_name_files(pictures, tmp_path):
    listed = tmp_path / "list.txt"
    names = sorted(map(str, pictures.rglob("*.jpg")))
    listed.write_text("\n".join([*names[:5], names[0], str(tmp_path / "missing.png")]))
    assert [item.key for item in items(listed)] == [*names[:5], str(tmp_path / "missing.png")]
    assert len(items(pictures / "real" / "*" / "*.jpg")) == 12
    listed.write_text("\n".join(names[:2]), encoding="utf-8-sig")
    assert [item.key for item in items(listed)] == names[:2]
    listed.write_bytes(b"\xff\xfe.jpg\n")
    with pytest.raises(ValueError, match="'list.txt' is no list of inputs"):
        items(listed)
    with pytest.raises(ValueError, match="Nothing matches"):
        items(tmp_path / "*.nothing")


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no image"):
        items(tmp_path)


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_an_archive_gives_pictures_with_their_json(pictures, tmp_path):
    data = sorted(pictures.rglob("*.jpg"))[0].read_bytes()
    facts = json.dumps({"source": "camera", "label": 1}).encode()
    write_tar(tmp_path / "shard.tar", [("a.jpg", data), ("a.json", facts), ("b.jpg", data), ("b.jpg", data), ("notes.md", b"-")])
    found = items(tmp_path / "shard.tar")
    assert [(item.key.partition("::")[2], item.source, item.truth) for item in found] == [
        ("a.jpg", "camera", 1),
        ("b.jpg", "shard", None),
        ("b.jpg::2", "shard", None),
    ]
    assert found[0].data == data


@pytest.mark.parametrize("rest", [100, 700])  # in the next header, and in the next picture
def test_an_archive_that_ends_early_says_so(pictures, tmp_path, rest):
    data = sorted(pictures.rglob("*.jpg"))[0].read_bytes()
    write_tar(tmp_path / "shard.tar", [(f"{i}.jpg", data) for i in range(4)])
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "shard.tar").read_bytes()[: 512 * (1 + -(-len(data) // 512)) + rest])
    *_, last = items(cut)
    assert "cut.tar" in last.error and "damaged" in last.error and str(tmp_path) not in last.error


def test_a_parquet_file_of_bytes_paths_and_the_image_feature(pictures, tmp_path):
    import pyarrow.parquet as pq

    files = sorted(pictures.rglob("*.jpg"))[:4]
    contents = [file.read_bytes() for file in files]
    columns = {
        "bytes.parquet": pa.array([*contents[:3], None], pa.binary()),
        "path.parquet": pa.array([str(file) for file in files[:3]] + [str(tmp_path / "no.jpg")]),
        "image.parquet": pa.array([{"bytes": data, "path": None} for data in contents]),
    }
    for name, column in columns.items():
        table = pa.table({name.partition(".")[0]: column, "source": ["s"] * 4, "label": [0, 1, 0, 1]})
        pq.write_table(table, tmp_path / name, row_group_size=3)
        found = items(tmp_path / name)
        assert [item.key for item in found] == [f"{tmp_path / name}::{row}" for row in range(4)]
        assert [item.data for item in found[:3]] == contents[:3] and [item.truth for item in found] == [0, 1, 0, 1]
        assert bool(found[3].error) == (name != "image.parquet")


def test_a_parquet_file_without_pictures_asks_for_the_column(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="--image-column"):
        items(tmp_path / "a.parquet")


def test_a_data_set_of_the_hub_from_disk(pictures, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the library datasets")
    files = sorted(map(str, pictures.rglob("*.jpg")))[:5]
    rows = datasets.Dataset.from_dict({"image": files, "label": [0, 1, 0, 1, 0]})
    rows = rows.cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["synthetic", "real"]))
    rows.save_to_disk(tmp_path / "saved")
    found = items(f"hf:{tmp_path / 'saved'}")
    assert [item.truth for item in found] == [1, 0, 1, 0, 1] and len({item.key for item in found}) == 5


def test_any_file_system(pictures):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in sorted(pictures.rglob("*.jpg"))[:3]:
        memory.pipe_file(f"/bucket/real/{file.name}", file.read_bytes())
    found = items("memory://bucket")
    assert len(found) == 3 and all(item.data and item.truth == 0 for item in found)
    missing = items("memory://bucket/real/none.jpg")[0]
    assert "not found" in missing.error and missing.data is None


def test_an_s3_bucket_on_loopback(pictures, monkeypatch):
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    thread = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    thread.start()
    try:
        host, port = thread.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = s3fs.S3FileSystem()
        bucket.mkdir("pictures")
        for file in sorted(pictures.rglob("*.jpg"))[:3]:
            bucket.pipe_file(f"pictures/synthetic/{file.name}", file.read_bytes())
        found = items("s3://pictures")
        assert [item.truth for item in found] == [1, 1, 1] and all(item.data for item in found)
        assert len(items("s3://pictures/synthetic/*.jpg")) == 3
    finally:
        thread.stop()


def test_batches_are_cut_by_number_and_by_pixels(monkeypatch, pictures):
    decoded = [Picture.decode(item, item.digest) for item in items(pictures)]
    assert [len(batch) for batch in batches(decoded, 10)] == [10, 10, 4]
    monkeypatch.setattr("detector.scale.items.BATCH_PIXELS", 3 * 72 * 64)
    assert max(len(batch) for batch in batches([p for p in decoded if p.photo], 10)) == 4
