"""Cuescope's detectors: one image in, a calibrated verdict and the numbers behind it out. Imports nothing heavy."""

__all__ = ["Suite"]


def __getattr__(name: str):
    if name == "Suite":
        from detector.suite import Suite

        return Suite
    raise AttributeError(f"module 'detector' has no attribute '{name}'")
