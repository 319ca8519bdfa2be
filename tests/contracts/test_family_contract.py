"""Every family of attacks is held to its contract, and nothing but its folder and the table knows it by name."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace

import pytest
from support.arrows import ROOT

from medward.attacks.families import FAMILIES, find_family
from medward.attacks.suite import default_attacks, more_attacks
from medward.attacks.validation.deployment import ModelBefore, queried_target
from medward.guard.errors import MedwardError
from medward.integrations.contracts import family as contract


@pytest.fixture(scope="module")
def deployment():
    return contract.line_deployment()


GUARDED = [name for name in FAMILIES if name != "audit"]  # what a training claims is judged without the guard


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


def naming(paths):
    """Files that name a family which is not their own."""
    found = []
    for path in paths:
        others = [name for name in FAMILIES if name not in path.relative_to(ROOT).parts]
        word = re.compile(rf"\b({'|'.join(others)})\b")
        found += [path.relative_to(ROOT).as_posix() for text in literals(path) if word.search(text)]
    return found


def test_nothing_but_its_folder_knows_a_family_by_name(tmp_path):
    files = [path for end in ("*.py", "*.j2") for path in sorted((ROOT / "attacks").rglob(end))]
    assert len(files) > 100
    assert naming(files) == []
    assert naming([ROOT / "integrations/cli/validate.py"]), "the control: a help text says them"
