"""Fixtures of `scale_pictures`."""

from scale_pictures import pictures, tiny  # noqa: F401
