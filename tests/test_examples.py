"""Every example runs to its end and shows what its first line promises."""

import re
import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def output(name, capsys):
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_tested():
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in source for path in EXAMPLES.glob("*.py"))


def test_the_clinic_is_served_and_the_thief_is_not(capsys):
    clinic, thief = output("01_guard_a_classifier.py", capsys).splitlines()
    refused = re.search(r"(\d+) withheld", clinic)
    assert refused is None or int(refused[1]) <= 2, "about one benign row in a hundred may be refused"
    assert int(re.search(r"(\d+) withheld", thief)[1]) > 20


def test_the_perturbation_fools_more_than_noise(capsys):
    printed = output("02_fool_a_radiograph_model.py", capsys)
    crafted, noise = (float(share) for share in re.findall(r"(?:perturbation|signs): +([\d.]+)", printed))
    assert crafted > noise + 0.2


def test_hardening_holds_off_a_perturbation_that_the_original_falls_for(capsys):
    printed = output("03_harden_a_classifier.py", capsys)
    (_, universal) = re.findall(r"balanced accuracy, \w+: ([\d.]+) -> ([\d.]+)", printed)
    assert float(universal[1]) > float(universal[0]) + 0.1
    before, after = re.search(r"into its class: ([\d.]+) .*before, ([\d.]+) ", printed).groups()
    assert float(before) > 0.5
    assert float(after) < float(before) - 0.2
    assert "empirical, not certified" in printed


def test_the_thieves_are_caught_alone_and_at_their_organisation_and_the_clinic_is_not(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = output("04_catch_a_thief.py", capsys)
    summary = dict(re.findall(r"=> ([\w ]+): (.*)", printed))
    assert summary.pop("clinic") == "no alarm; answers got: 500 rounded"
    caught = {
        who: int(re.search(r"withhold at query (\d+); .* \d+ withheld$", line)[1]) for who, line in summary.items()
    }
    assert caught["thief"] <= 10 < caught["hidden thief"]
    assert caught["organisation"] <= 2 * caught["hidden thief"]
    assert re.search(r"^ *\d+  thief .* withhold  strange \d+%", printed, re.MULTILINE)
    assert (tmp_path / "out" / "catch_a_thief.png").read_bytes().startswith(b"\x89PNG")
