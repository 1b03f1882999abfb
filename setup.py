"""The packages to install; all else stands in pyproject.toml, which cannot name both packages to look for and one that lies elsewhere."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["detector*", "interpret*"]), "cuescope_assets"])
