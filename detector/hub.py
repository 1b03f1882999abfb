"""Weights from the Hugging Face hub: found by open_clip's own table, resumed after a cut, checked, kept.

huggingface_hub throws away what it has of a file when a download is cut, so the bytes are fetched by `download`; its
metadata request still says where they are, how many, and what their SHA-256 must be.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from detector.download import PinnedFile, Progress, PublishedError, cache_folder, download, reason

SAFE_NAME, PICKLED_NAME = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"  # open_clip's defaults
ADVICE = "check the network connection to the hub and try again (it goes on where it stopped), or use the backbone 'embedded'"


def weights_place(model_name: str, tag: str) -> tuple[str, list[str]]:
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
    """The weights' file where it is already here, in our cache or in huggingface_hub's. Asks no network."""
    from huggingface_hub import try_to_load_from_cache

    repository, names = weights_place(model_name, tag)
    for name in names:
        if (own := _kept(repository, name)).is_file():
            return own
        if isinstance(found := try_to_load_from_cache(repository, name), str):
            return Path(found)
    return None


def fetch_weights(model_name: str, tag: str, progress: Progress | None = None) -> Path:
    """The weights of an open_clip MODEL and TAG: those that are here, else downloaded from the hub.

    A file enters the cache only when its size and SHA-256 are those that the hub names. progress: called with (bytes so
    far, bytes in all). Raises PublishedError, one sentence. `HF_ENDPOINT` and `HF_HUB_OFFLINE` are honoured.
    """
    if found := find_weights(model_name, tag):
        return found
    repository, names = weights_place(model_name, tag)
    for name in names:
        source = _source(repository, name)
        if source:
            return download(source, _kept(repository, name), progress)
    raise PublishedError(f"The hub has no weights file {' or '.join(names)} in {repository}.")


def _kept(repository: str, name: str) -> Path:
    return cache_folder() / "hub" / repository.replace("/", "--") / name


def _source(repository: str, name: str) -> PinnedFile | None:
    """Where the file lies and what must arrive; None where the repository has no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    label = f"{repository}/{name}"
    url = hf_hub_url(repository, name, endpoint=os.environ.get("HF_ENDPOINT"))  # the client itself reads it once, at import
    try:
        found = get_hf_file_metadata(url)
    except EntryNotFoundError:
        return None
    except Exception as error:  # the client raises many kinds, its HTTP library's own among them
        raise PublishedError(f"{label} could not be asked for at the hub ({_first_words(error)}); {ADVICE}.") from error
    if not found.size or len(found.etag or "") != 64:  # the hub names a large file by its SHA-256
        raise PublishedError(f"The hub gives no checksum for {label}, so it was not downloaded.")
    return PinnedFile(label, url, found.etag, found.size, mirrored=False, advice=ADVICE)


def _first_words(error: Exception) -> str:
    """What the hub's client says before it begins to explain."""
    return re.sub(r"^\[Errno [^]]*\] ", "", reason(error)).split(";")[0].split(" (Request ID")[0][:160]
