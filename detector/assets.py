"""Where the shipped weights and word lists lie: beside the code in a checkout, in a package of their own where it was installed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent / "assets"
# by way of a folder in it: the package holds no code, and the place of such a package itself has no path
ASSETS = _CHECKOUT if (_CHECKOUT / "models").is_dir() else Path(str(files("cuescope_assets") / "models")).parent
MODELS = ASSETS / "models"
EMBEDDED = "embedded"  # name of the backbone that ships with the project
