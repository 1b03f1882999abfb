"""The type of open_clip's models."""

from __future__ import annotations

from typing import Any, TypeAlias

# open_clip's models and towers differ from class to class in the parts that we read, and name them nowhere in their types
Tower: TypeAlias = Any
