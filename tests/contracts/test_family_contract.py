"""Every family of attacks is held to its contract, and nothing but its folder and the table knows it by name."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.arrows import ROOT

from medward.attacks.base import Access, AttackResult, ThreatModel
from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.framing import FRAMINGS
from medward.attacks.disclosure.plants import plant_identities
from medward.attacks.disclosure.victim import ExtractionTurn, WorstCaseVictim
from medward.attacks.disclosure.writer import WriterDeployment
from medward.attacks.families import FAMILIES, find_family
from medward.attacks.suite import default_attacks, more_attacks
from medward.attacks.target import AccessDeniedError, BudgetSpentError
from medward.attacks.validation.deployment import ModelBefore, queried_target
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import ARMS
from medward.attacks.validation.gate import judge_cell
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.errors import MedwardError
from medward.guard.policy import GatePolicy
from medward.guard.tasks.opaque import Opaque
from medward.integrations.contracts import family as contract


@pytest.fixture(scope="module")
def deployment():
    return contract.line_deployment()


UNLIKE = ("audit", "disclosure")  # what a training claims is judged without the guard; a writer answers no rows
GUARDED = [name for name in FAMILIES if name not in UNLIKE]


@pytest.mark.parametrize("name", GUARDED)
def test_the_contract_holds(name, deployment):
    contract.check_family(FAMILIES[name], deployment)
    assert set(FAMILIES[name].controls) == contract.CATALOGUES


@dataclass
class Spoilt:
    """A family with something else in the place of one of its methods."""

    whole: object
    changed: dict

    def __getattr__(self, name):
        return self.changed[name] if name in self.changed else getattr(self.whole, name)


def judged_the_same(runs):
    return FAMILIES["evasion"].judge(replace(runs, results=dict.fromkeys(runs.results, runs.results["undefended"])))


BROKEN = {
    "and not HELD": (contract.check_family_verdicts, {"judge": judged_the_same}),
    "must lower the bound": (contract.check_family_verdicts, {"bound": lambda gate: 0.2}),
    "no sentence in": (contract.check_family_words, {"untested": "how it ends"}),
    "controls name": (contract.check_family_words, {"controls": {"A wiki": ("ML01",)}}),
}


@pytest.mark.parametrize("said", BROKEN)
def test_the_control_what_breaks_the_contract_is_said(said):
    check, changed = BROKEN[said]
    with pytest.raises(MedwardError, match=said):
        check(Spoilt(FAMILIES["evasion"], changed))


def test_the_control_a_target_without_its_guard_is_found(deployment):
    family = FAMILIES["extraction"]
    bare = {"target": lambda deployment, arm, attack, data: family.target(deployment, "undefended", attack, data)}
    with pytest.raises(MedwardError, match="a guarded target has no guard"):
        contract.check_family_targets(Spoilt(family, bare), deployment)


WRITERS = [name for name, family in FAMILIES.items() if family.measure == "share of planted values read"]
POWERS = {
    (1.0, 0.01, 0.01): "HELD",
    (1.0, 0.01, 0.9): "BROKEN",
    (1.0, 0.9, 0.01): "BROKEN",
    (0.05, 0.01, 0.01): "INCONCLUSIVE",
    (1.0, 0.04, 0.04): "TOO_FEW_ROWS",
}


@pytest.fixture(scope="module")
def written():
    model = SimpleNamespace(spec=replace(contract.SPEC, task=Opaque(what="text")))
    return WriterDeployment(
        bundle=SimpleNamespace(model=model),
        writer=WorstCaseVictim(),
        release=lambda shown: Silent(),
        plants=plant_identities(2, seed=0),
    )


class Silent:
    """A filter that lets nothing leave."""

    def redact(self, answer):
        return ""


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("powers", POWERS)
def test_what_a_writer_gives_away_is_judged_as_what_a_model_of_rows_does(name, powers):
    family, gate = FAMILIES[name], GatePolicy()
    status, reasons = judge_cell(contract.scripted_cell(family, *powers), family.bound(gate), gate)
    assert status == POWERS[powers], reasons
    assert all(reason[0].isupper() and reason.endswith(".") for reason in reasons)
    empty = AttackResult(outcome=np.zeros(0, bool))
    assert family.achieved(empty, 0) is None
    runs = Runs(attack=contract.named_attack(family), results={"undefended": empty}, spec=contract.SPEC, seed=0)
    assert "no row" in " ".join(family.judge(runs).too_weak())


@pytest.mark.parametrize("name", WRITERS)
def test_a_family_of_writers_says_that_a_model_of_rows_is_none(name, deployment):
    shared = share_rows(contract.SignedLine(), conform_splits(contract.line_splits(), contract.SPEC), seed=0)
    found = FAMILIES[name].holdings(deployment, shared)
    assert found.status == "NOT_APPLICABLE"
    assert "answers no text" in found.reason
    contract.check_family_words(FAMILIES[name])
    assert set(FAMILIES[name].controls) == contract.CATALOGUES


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_is_met_bare_then_filtered_and_only_who_knows_the_guard_holds_a_copy(name, written):
    family, attack = FAMILIES[name], contract.named_attack(FAMILIES[name])
    plant = written.plants[0]
    turn = ExtractionTurn(kind=plant.kind, framing=FRAMINGS["direct"], disguise=DISGUISES["verbatim"])
    said, copies = {}, {}
    for arm in ARMS:
        target = family.target(written, arm, attack, None)
        said[arm] = target.converse(plant.shown, turn, turns=1, piece=24)
        assert target.queries == 1
        with pytest.raises(AccessDeniedError, match="ask it in words"):
            target.query(np.zeros((1, 6), np.float32))
        copies[arm] = target._rehearsal is not None
    assert plant.value in said["undefended"][0]
    assert said["guarded"] == said["adaptive"] == [""]
    assert copies == {"undefended": False, "guarded": False, "adaptive": True}


@pytest.mark.parametrize("name", WRITERS)
def test_the_budget_of_turns_is_kept(name, written):
    declared = replace(contract.named_attack(FAMILIES[name]), threat=ThreatModel(access=Access.TEXT, queries=2))
    target = FAMILIES[name].target(written, "undefended", declared, None)
    turn = ExtractionTurn(kind="birth date", framing=FRAMINGS["direct"], disguise=DISGUISES["a letter a turn"])
    with pytest.raises(BudgetSpentError, match="budget of 2 turns"):
        target.converse(written.plants[0].shown, turn, turns=9, piece=24)
    assert target.queries == 2


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_in_whom_nothing_was_planted_is_not_tested(name, written):
    shared = share_rows(contract.SignedLine(), conform_splits(contract.line_splits(), contract.SPEC), seed=0)
    assert FAMILIES[name].holdings(replace(written, plants=()), shared).reason.startswith("not tested: ")


def test_a_family_of_no_table_is_told_so():
    with pytest.raises(MedwardError, match="there is no 'mine'"):
        contract.check_family(Spoilt(FAMILIES["evasion"], {"name": "mine"}))


def test_a_family_without_a_claim_never_meets_the_model_before(deployment):
    nameless = replace(deployment, before=ModelBefore(model=contract.SignedLine(sign=-1), digest="cd" * 32, claim=""))
    target = queried_target(nameless, "undefended", contract.NamedAttack("any"))
    test = contract.line_splits()["test"]
    assert (target.query(test.inputs[:9]).labels == test.labels[:9]).all()


def test_every_attack_of_the_suite_is_of_a_family_in_the_table():
    image = replace(contract.SPEC, modality="image", shape=(1, 8, 8), low=0.0, high=1.0)
    for spec in (contract.SPEC, image):
        assert {find_family(attack.family) for attack in default_attacks(spec)} == {FAMILIES[name] for name in GUARDED}
        assert all(attack.family in FAMILIES for attack in more_attacks(spec))
    with pytest.raises(MedwardError, match="there is no 'spoofing'"):
        find_family("spoofing")


def literals(path):
    """Texts in code, docstrings apart; of another file than Python every line."""
    if path.suffix != ".py":
        return path.read_text().splitlines()
    tree = ast.parse(path.read_text())
    apart = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in apart]
    return [node.value for node in nodes if isinstance(node.value, str) and not node.value.startswith("attacks/")]


FDA_NAME = "model evasion"  # what FDA calls a threat


def naming(paths):
    """Files that name a family which is not their own."""
    found = []
    for path in paths:
        others = [name for name in FAMILIES if name not in path.relative_to(ROOT).parts]
        word = re.compile(rf"\b({'|'.join(others)})\b")
        found += [
            path.relative_to(ROOT).as_posix() for text in literals(path) if word.search(text.replace(FDA_NAME, ""))
        ]
    return found


def test_nothing_but_its_folder_knows_a_family_by_name(tmp_path):
    files = [path for end in ("*.py", "*.j2") for path in sorted((ROOT / "attacks").rglob(end))]
    assert len(files) > 100
    assert naming(files) == []
    assert naming([ROOT / "integrations/cli/validate.py"]), "the control: a help text says them"
