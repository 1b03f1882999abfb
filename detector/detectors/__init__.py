"""Detectors by name: a method, the backbone that it reads, the head, and who trained it."""
