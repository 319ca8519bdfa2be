import pytest

from medward.attacks.evasion.per_image import PerImage
from medward.attacks.evasion.universal import UniversalAttack
from medward.attacks.suite import chosen_attacks, default_attacks, more_attacks
from medward.attacks.whitebox.ball import FeatureRules
from medward.attacks.whitebox.criterion import ClassChange
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

IMAGE = ModelSpec(
    name="x",
    modality="image",
    shape=(1, 8, 8),
    task=Classification(classes=("0", "1"), output="logits"),
    low=0.0,
    high=1.0,
    features=2,
)
TABLE = ModelSpec(
    name="t",
    modality="tabular",
    shape=(5,),
    task=Classification(classes=("0", "1"), output="logits"),
    low=None,
    high=None,
    features=2,
)


@pytest.mark.parametrize("spec", [IMAGE, TABLE])
def test_every_attack_has_a_name_of_its_own_and_can_be_chosen_by_it(spec):
    attacks = (*default_attacks(spec), *more_attacks(spec))
    names = [attack.name for attack in attacks]
    assert len(set(names)) == len(names)
    assert chosen_attacks(spec, names) == attacks
    assert chosen_attacks(spec) == default_attacks(spec)


def test_an_unknown_name_is_answered_with_all_there_are():
    with pytest.raises(MedwardError, match=r"no 'uup'; there are uap, .*standard"):
        chosen_attacks(IMAGE, ["uup"])


def test_rules_reach_every_evasion_attack_and_what_it_becomes_when_it_knows_the_guard():
    rules = FeatureRules(integer=(0,), immutable=(1, 2))
    for attack in chosen_attacks(TABLE, [a.name for a in (*default_attacks(TABLE), *more_attacks(TABLE))], rules):
        if isinstance(attack, PerImage | UniversalAttack):
            assert attack.rules == rules
            assert attack.adaptive(Policy(on_error="flag")).rules == rules
        else:
            assert attack.family != "evasion"


@pytest.mark.parametrize("spec", [IMAGE, TABLE])
def test_every_targeted_row_tries_every_class(spec):
    universal = [each for each in (*default_attacks(spec), *more_attacks(spec)) if isinstance(each, UniversalAttack)]
    targeted = [each for each in universal if "targeted" in each.name]
    assert {each.name for each in targeted} == {"uap-targeted", "uap-targeted-natural"}
    assert all(each.aims(spec) == tuple(map(ClassChange, range(len(spec.classes)))) for each in targeted)
