"""``medward federate audit``: who was suspected or refused, when and why; every mistake is one sentence and exit 3."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.logs import write

from medward.guard.federated.aggregator import RoundResult
from medward.guard.federated.robust_feddetect import ClientJudgement, Suspicion
from medward.guard.federated.round_record import round_record
from medward.guard.federated.rules import NormClippedMean, WeightedMean
from medward.guard.federated.sanitise import Refusal
from medward.guard.federated.update import ClientUpdate
from medward.integrations.cli import main

ODD = "\x1b[31mred[bold]"


def rounds():
    """Six rounds: mallory is suspected in the last three, a broken client is refused in all, a stranger in one."""
    for number in range(1, 7):
        flagged = number > 3
        trust = {"a": 1.0, "b": 1.0, "mallory": 0.5 ** (number - 3) if flagged else 1.0}
        suspicion = Suspicion(node="mallory", view="contrast", peak=20.0 + number, threshold=12.0)
        yield (
            RoundResult(
                parameters=[np.zeros(1)],
                weights={node: each / sum(trust.values()) for node, each in trust.items()},
                lengths={node: 1000.0 if node == "mallory" else 1.0 for node in trust},
                judgement=ClientJudgement(trust=trust, suspects=(suspicion,) if flagged else ()),
                refusals=(
                    Refusal("broken", "array 0 holds NaN or infinity"),
                    *([Refusal(ODD, "was not selected this round")] if number == 2 else []),
                ),
            ),
            number,
        )


@pytest.fixture
def log(tmp_path):
    said = [ClientUpdate(node="a", parameters=[], examples=1, metrics={"epsilon": 0.75})]
    records = [round_record(number, each, NormClippedMean(), said) for each, number in rounds()]
    return write(tmp_path / "audit.jsonl", records)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main(["federate", "audit", *map(str, arguments)])
    said = capsys.readouterr()
    return done.value.code, said.out, said.err


@pytest.mark.parametrize("place", ["file", "folder"])
def test_the_table_says_who_was_suspected_when_and_why(log, capsys, place):
    code, out, _ = run(capsys, log if place == "file" else log.parent)
    assert code == 0
    assert "6 rounds, 5 clients, chain whole" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["mallory"] == ["mallory", "6", "3", "4", "6", "contrast", "26.00", ">", "12.00", "0", "1000", "0.0588"]
    assert rows["a"][:3] == ["a", "6", "0"]
    assert next(line.split() for line in out.splitlines() if "never counted" in line)[:3] == ["broken", "6", "0"]
    assert "broken refused in 6 rounds from 1 to 6: array 0 holds NaN or infinity" in out
    assert "unprotected" not in out
    assert "\x1b" not in out, "a client's name steers no terminal"
    assert "red[bold] refused in round 2" in out


def test_one_client_is_told_round_by_round(log, capsys):
    code, out, _ = run(capsys, log, "--client", "mallory")
    lines = [line for line in out.splitlines() if line.startswith("round ")]
    assert code == 0
    assert len(lines) == 6
    assert lines[0] == "round 1: weight 0.3333; length 1000 medians; trust 1.000"
    assert lines[4] == "round 5: weight 0.1111; length 1000 medians; trust 0.250; suspected: contrast 25.00 > 12.00"
    _, out, _ = run(capsys, log, "--client", "a")
    assert "says it has spent epsilon 0.75" in out


def test_json_has_every_round(log, capsys):
    code, out, _ = run(capsys, log, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["rounds"] == said["last"] == 6
    assert said["clients"]["mallory"]["suspected"] == [4, 5, 6]
    assert said["clients"]["mallory"]["rounds"][5]["suspicion"]["peak"] == 26.0
    assert said["clients"]["broken"]["refused"] == [1, 2, 3, 4, 5, 6]
    assert said["clients"]["broken"]["weight"] is None
    _, out, _ = run(capsys, log, "--json", "--client", "b")
    assert set(json.loads(out)["clients"]) == {"b"}


def test_an_unprotected_federation_is_called_so(tmp_path, capsys):
    found = RoundResult(parameters=[np.zeros(1)], weights={"a": 1.0}, judgement=None, refusals=())
    path = write(
        tmp_path / "log.jsonl", [round_record(1, found, WeightedMean()), round_record(1, found, WeightedMean())]
    )
    _, out, _ = run(capsys, path)
    assert "unprotected in 2 of 2 rounds: no client was judged" in out
    assert "unprotected in 2 of 2 rounds: weighted-mean lets one client move the model anywhere" in out
    assert "rounds whose number had been there before: 1; the server was started again" in out


def test_an_unfinished_line_is_said(log, capsys):
    log.write_bytes(log.read_bytes()[:-30])
    code, out, _ = run(capsys, log)
    assert code == 0
    assert "its last line is unfinished" in out
    assert "5 rounds" in out
    _, out, _ = run(capsys, log, "--json")
    assert json.loads(out)["torn"] > 0


def test_mistakes_speak(log, tmp_path, capsys):
    other = write(tmp_path / "other.jsonl", [{"event": "reset", "principal": "a"}])
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(log.read_bytes().replace(b'"peak":25.0', b'"peak":15.0'))
    text = tmp_path / "notes.txt"
    text.write_text("these are notes\n")
    for arguments, says in [
        ([tmp_path / "none.jsonl"], "there is no such audit log"),
        ([damaged], "record 5 (line 5): broken hash"),
        ([other], "none of its 1 records is of a federated round"),
        ([text], "record 1 (line 1): not JSON"),
        ([log, "--client", "eve"], "--client: eve sent nothing; there are"),
        ([log, "--client", "\x1b[2Jeve"], "--client: \N{REPLACEMENT CHARACTER}[2Jeve sent nothing"),
        ([log, "--head", "0" * 63 + "1"], "the log was cut short or rewritten since"),
        ([log, "--client", "a", "--client", "b"], "--client: is said 2 times"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (3, ""), arguments
        assert says in err
        assert err.count("\n") == 1
