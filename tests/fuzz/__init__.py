"""Files made wrong on purpose, read by `load_photo` in processes of their own: `python -m tests.fuzz --help`."""
