"""The one folder for all that visitors leave on the disk: where it lies, what in it is an upload, its budget, its sweep.

Only the standard library: `app.py` imports this before Gradio, which reads the folder's name from the environment.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

NAME = "cuescope-uploads"  # not "cuescope": a clone of the repository may lie beside it, and all that is old in here is deleted
SIX_HOURS, HALF_AN_HOUR, TEN_MINUTES = 21_600, 1_800, 600  # seconds
FRESH = 2.0  # seconds for which a measured size of the folder is taken as it is
_CONTENT_HASH = re.compile("[0-9a-f]{64}")


def choose_folder() -> Path:
    """Set `GRADIO_TEMP_DIR` to a folder of our own below the user's setting, or below the system's temporary folder, and make it.

    In the system's folder a stranger may have made one of that name; then one with the user's number, or a new one, takes its place.
    """
    base = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    names = (base,) if base.name.startswith(NAME) else (base / NAME, base / f"{NAME}-{os.getuid()}")
    path = next((path for path in names if _is_ours(path)), None) or Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    os.environ["GRADIO_TEMP_DIR"] = str(path)
    return path


def _is_ours(path: Path) -> bool:
    """Whether the path is a folder of this user and no link, after it was made where it was missing."""
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return False


def folder() -> str:
    """The folder in use, as Gradio knows it; chosen now where nobody has chosen one."""
    return os.path.abspath(os.environ.get("GRADIO_TEMP_DIR") or choose_folder())


def upload_at(path: object) -> str | None:
    """The real path of an uploaded file or example, or None for anything else.

    Uploads lie two levels down, in a folder named after their content. Names outside are turned down by their text alone, so that
    not even the time taken tells whether such a file exists.
    """
    if not isinstance(path, str) or "\0" in path or not os.path.abspath(path).startswith(folder() + os.sep):
        return None
    real, root = os.path.realpath(path), os.path.realpath(folder())
    parts = real.removeprefix(root + os.sep).split(os.sep)
    inside = real.startswith(root + os.sep) and len(parts) == 2 and bool(_CONTENT_HASH.fullmatch(parts[0]))
    return real if inside and os.path.isfile(real) else None


# --- sweep ---------------------------------------------------------------------------------------------------------


def sweep(now: float | None = None, age: float = SIX_HOURS) -> None:
    """Delete what was last written more than `age` seconds before `now` (None: the clock): files, links, and empty folders.

    A folder that this empties goes at a later sweep, so that none is taken from an upload on its way. Links are not followed. Another
    server may sweep the same folder: what is gone already is no error, and a file that is being read stays readable.
    """
    limit = (time.time() if now is None else now) - age
    for _, folders, files, at in os.fwalk(folder(), topdown=False, follow_symlinks=False):
        for name in [*files, *folders]:
            with suppress(OSError):
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if status.st_mtime < limit:
                    (os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink)(name, dir_fd=at)


def keep_swept(examples: Iterable[str], stop: threading.Event) -> None:
    """Sweep now and every half hour until told to stop.

    examples: files of the page itself, which count as new each time. Where visitors' results have grown to twice the budget, younger
    ones go too, but none of the last ten minutes.
    """
    while True:
        for path in examples:
            with suppress(OSError):
                os.utime(path)
        age: float = SIX_HOURS
        sweep()
        while age > TEN_MINUTES and BUDGET.overdrawn():
            age /= 2
            sweep(age=max(age, TEN_MINUTES))
        if stop.wait(HALF_AN_HOUR):
            return


# --- budget --------------------------------------------------------------------------------------------------------


@dataclass
class Budget:
    """What the folder may hold. bytes: of all files; files: their number. Uploads are refused beyond it."""

    bytes: int
    files: int
    _used: tuple[int, int] = (0, 0)
    _coming: int = 0
    _measured: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, size: int) -> bool:
        """Whether a file of `size` bytes still fits; if so its bytes stay reserved until `settle`. Sweeps before it refuses."""
        with self._lock:
            if time.monotonic() - self._measured > FRESH:
                self._measure()
                if not self._fits(size):
                    sweep()
                    self._measure()
            fits = self._fits(size)
            self._coming += size if fits else 0
            return fits

    def settle(self, size: int) -> None:
        """The file is on the disk, or did not come after all."""
        with self._lock:
            self._coming -= size
            self._used = (self._used[0] + size, self._used[1] + 1)

    def overdrawn(self) -> bool:
        """Whether the folder holds twice the budget: results count, but only uploads are refused."""
        with self._lock:
            self._measure()
            return self._used[0] > 2 * self.bytes or self._used[1] > 2 * self.files

    def _fits(self, size: int) -> bool:
        return self._used[0] + self._coming + size <= self.bytes and self._used[1] < self.files

    def _measure(self) -> None:
        sizes = []
        for _, _, files, at in os.fwalk(folder(), follow_symlinks=False):
            for name in files:
                with suppress(OSError):
                    sizes.append(os.stat(name, dir_fd=at, follow_symlinks=False).st_size)
        self._used, self._measured = (sum(sizes), len(sizes)), time.monotonic()


def _number(variable: str, default: int) -> int:
    """A whole number from the environment. SystemExit, one sentence, where it is none."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal():
        raise SystemExit(f"{variable} must be a whole number, not {text[:40]!r}.")
    return int(text)


BUDGET = Budget(_number("CUESCOPE_UPLOADS_MB", 2048) * 2**20, _number("CUESCOPE_UPLOADS_FILES", 20_000))
