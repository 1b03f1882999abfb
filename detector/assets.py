"""Where the shipped weights and word lists lie: beside the code in a checkout, in a package of their own where it was installed.

And the user's folders: of what is downloaded (`CUESCOPE_CACHE`) and of what the user makes (`CUESCOPE_HOME`).
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent / "assets"
# by way of a folder in it: the package holds no code, and the place of such a package itself has no path
ASSETS = _CHECKOUT if (_CHECKOUT / "models").is_dir() else Path(str(files("cuescope_assets") / "models")).parent
MODELS = ASSETS / "models"
EMBEDDED = "embedded"  # name of the backbone that ships with the project


def user_folder(variable: str) -> Path:
    """The folder that an environment variable names, else `cuescope` in the user's cache folder. RuntimeError, one sentence, where
    the account has no home folder."""
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        user = "~/Library/Caches"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(os.environ.get(variable) or f"{user}/cuescope").expanduser()
    except RuntimeError as error:
        raise RuntimeError(f"This account has no home folder; set {variable} to a folder.") from error
