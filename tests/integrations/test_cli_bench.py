"""``medward bench``: a small table from the command line, and a mistake as one sentence."""

import pytest

from medward.attacks.benchmarks.datasets import phantom
from medward.integrations.cli import main


@pytest.fixture
def medward(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(phantom, "PHANTOM_SIZES", {name: size // 15 for name, size in phantom.PHANTOM_SIZES.items()})

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["bench", *arguments])
        printed = capsys.readouterr()
        return done.value.code, printed.out, printed.err

    return run


def test_a_table_is_printed_written_and_kept(medward, tmp_path):
    small = ("--tasks", "phantom", "--architectures", "cnn", "--defenses", "undefended", "--zetas", "4")
    quick = ("--seeds", "1", "--epochs", "1", "--size", "32", "--out", "table")
    code, out, _ = medward("uap", *small, *quick)
    assert code == 0
    assert "phantom, undefended; 4 % = " in out
    assert "table: table/table.md" in out
    assert (tmp_path / "table/table.json").exists()
    code, _, err = medward("uap", *small, *quick)
    assert code == 0
    assert err.count("kept from before") == 2


def test_a_mistake_is_one_sentence(medward):
    code, out, err = medward("uap", "--architectures", "alexnet", "--out", "table")
    assert (code, out) == (3, "")
    assert err.startswith("medward: architecture 'alexnet' is not known; there are cnn, ")
    assert err.count("\n") == 1
