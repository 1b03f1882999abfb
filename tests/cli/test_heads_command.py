"""`heads` lists every method and every released head."""

from detector.cli.main import main
from detector.methods.registry import METHODS


def test_heads_are_listed(capsys, monkeypatch, tmp_path):
    from detector.methods.published import NAMES

    monkeypatch.setenv("CUESCOPE_CACHE", str(tmp_path))
    assert main(["heads"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [*METHODS, "verdict", *NAMES] and {len(row) for row in rows} == {6}
    assert [row[5] for row in rows] == ["present"] * (len(METHODS) + 1) + ["not downloaded"] * len(NAMES)
