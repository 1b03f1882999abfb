"""Weights from the Hugging Face hub: open_clip's own table names them; a download is resumed, checked and cached.

huggingface_hub throws away what it has of a file when a download is cut, so the bytes are fetched by `download`; its
metadata request still says where they are, how many, and what their SHA-256 must be. Every failure is a PublishedError:
one sentence that ends in what to do.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from detector.hub.download import PinnedFile, Progress, PublishedError, cache_folder, download, reason

SAFE_NAME, PICKLED_NAME = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"  # open_clip's defaults
ADVICE = "check the network connection to the hub and try again (it goes on where it stopped), or use the backbone 'embedded'"
ROOM_ADVICE = "make room there, or let CUESCOPE_CACHE name a folder on another disk"
OTHER_ADVICE = "try again later, or use the backbone 'embedded'"


def hub_files(model_name: str, tag: str) -> tuple[str, list[str]]:
    """(hub repository, file names to try in this order) of an open_clip MODEL and TAG; safetensors before pickles.

    PublishedError for the few tags that lie elsewhere.
    """
    import open_clip

    place = open_clip.get_pretrained_cfg(model_name, tag).get("hf_hub", "")
    repository, _, file = place.rpartition("/")
    if not repository:
        raise PublishedError(f"The weights {model_name}/{tag} do not lie on the hub; download them yourself and give their folder.")
    file = file or PICKLED_NAME
    safe = SAFE_NAME if file == PICKLED_NAME else str(Path(file).with_suffix(".safetensors"))
    return repository, list(dict.fromkeys([safe, file]))


def find_weights(model_name: str, tag: str) -> Path | None:
    """The weights' file in our cache or in huggingface_hub's; None if it is in neither. Uses no network."""
    from huggingface_hub import try_to_load_from_cache

    repository, names = hub_files(model_name, tag)
    for name in names:
        if (path := _cache_path(repository, name)).is_file():
            return path
        if isinstance(entry := try_to_load_from_cache(repository, name), str):
            return Path(entry)
    return None


def fetch_weights(model_name: str, tag: str, progress: Progress | None = None) -> Path:
    """The weights' file of an open_clip MODEL and TAG, from a cache or downloaded from the hub.

    A file enters the cache only when its size and SHA-256 are those that the hub names. progress: called with (bytes so
    far, bytes in all). Raises PublishedError, one sentence. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured.
    """
    if path := find_weights(model_name, tag):
        return path
    repository, names = hub_files(model_name, tag)
    for name in names:
        source = _source(repository, name)
        if source:
            return _download_weights(source, _cache_path(repository, name), progress)
    raise PublishedError(f"The hub has no weights file {' or '.join(names)} in {repository}; choose another tag.")


def _download_weights(source: PinnedFile, path: Path, progress: Progress | None) -> Path:
    _check_room(source, path)
    try:
        return download(source, path, progress)
    except PublishedError as error:
        if ADVICE in str(error):
            raise
        advice = ROOM_ADVICE if isinstance(error.__cause__, OSError) else OTHER_ADVICE
        raise PublishedError(f"{str(error).removesuffix('.')}; {advice}.") from error


def _check_room(source: PinnedFile, path: Path) -> None:
    """Refuse at once what would fill the disk after an hour."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        remaining = source.size - (partial.stat().st_size if partial.is_file() else 0)
        folder = next(parent for parent in path.parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
    except OSError:  # the download will say what is wrong with the folder
        return
    if free < remaining:
        raise PublishedError(
            f"{source.name} still needs {remaining / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB left; {ROOM_ADVICE}."
        )


def _cache_path(repository: str, name: str) -> Path:
    return cache_folder() / "hub" / repository.replace("/", "--") / name


def _source(repository: str, name: str) -> PinnedFile | None:
    """Where the file lies and what must arrive; None where the repository has no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    label = f"{repository}/{name}"
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None  # the client itself reads it once, at import
    url = hf_hub_url(repository, name, endpoint=endpoint)
    try:
        metadata = get_hf_file_metadata(url)
    except EntryNotFoundError:
        return None
    except Exception as error:  # the client raises many kinds, its HTTP library's own among them
        raise PublishedError(_refusal(label, error)) from error
    sha256 = metadata.etag or ""
    if not metadata.size or len(sha256) != 64:  # the hub names a large file by its SHA-256
        raise PublishedError(
            f"{url.partition('/' + repository)[0]} answers for {label} without size and checksum, as no hub does; "
            "check HF_ENDPOINT and whether the network wants a sign-in, or use the backbone 'embedded'."
        )
    return PinnedFile(label, url, sha256, metadata.size, has_mirror=False, advice=ADVICE)


def _refusal(label: str, error: Exception) -> str:
    """The sentence for a file that could not even be asked for."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return f"{label} is not on this machine and HF_HUB_OFFLINE is set; unset it to download, or use the backbone 'embedded'."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):  # the hub says 401 of repositories that do not exist, too
        return f"The hub does not give out {label} (HTTP status {status}); check HF_ENDPOINT, or choose another tag or 'embedded'."
    why = f"HTTP status {status}" if status else _first_words(error)
    return f"{label} could not be asked for at the hub ({why}); {ADVICE}."


def _first_words(error: Exception) -> str:
    """What the hub's client says before it begins to explain."""
    return re.sub(r"^\[Errno [^]]*\] ", "", reason(error)).split(";")[0].split(" (Request ID")[0][:160]
