"""detector/markdown.py: tables, and what stands between marks."""

import pytest

from detector.markdown import markdown_table, write_between_marks


def test_a_table_by_hand():
    assert markdown_table(["a", "b"], [["1", "2"], ["3", "4"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"


def test_tables_go_between_their_marks(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("before\n<!-- evaluation -->\nold\n<!-- end evaluation -->\nafter\n")
    write_between_marks(path, "evaluation", "new")
    assert path.read_text() == "before\n<!-- evaluation -->\nnew\n<!-- end evaluation -->\nafter\n"
    with pytest.raises(ValueError, match="no marks"):
        write_between_marks(path, "other", "x")
