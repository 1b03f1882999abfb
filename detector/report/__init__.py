"""A page about a table of scores, as `score --format parquet` writes it: `python -m detector report`."""
