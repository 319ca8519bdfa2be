from dataclasses import replace

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
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.threat_policy import ThreatPolicy

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


def task_spec(task, spec=IMAGE):
    return replace(spec, task=task)


FINDINGS = task_spec(Multilabel(findings=("p", "q"), output="logits", thresholds=(0.1, 0.5)))
NUMBER = task_spec(Regression(tolerance=1.0), TABLE)
OUTPUTS = task_spec(Opaque(what="mask"))


@pytest.mark.parametrize("spec", [IMAGE, TABLE, FINDINGS, NUMBER, OUTPUTS])
def test_every_attack_has_a_name_of_its_own_and_can_be_chosen_by_it(spec):
    attacks = (*default_attacks(spec), *more_attacks(spec))
    names = [attack.name for attack in attacks]
    assert len(set(names)) == len(names)
    assert chosen_attacks(spec, names) == attacks
    assert chosen_attacks(spec) == default_attacks(spec)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (IMAGE, ["uap", "uap-targeted", "pgd"]),
        (FINDINGS, ["uap", "uap-hide", "uap-raise", "pgd", "pgd-hide", "pgd-raise"]),
        (NUMBER, ["uap", "pgd"]),
        (OUTPUTS, []),
    ],
)
def test_evasion_follows_the_task(spec, names):
    assert [each.name for each in default_attacks(spec) if each.family == "evasion"] == names
    for attack in (*default_attacks(spec), *more_attacks(spec)):
        if attack.family == "evasion":
            assert attack.criterion(spec)
            assert attack.adaptive(Policy(on_error="flag")).aim == attack.aim
    assert isinstance(spec.task, Multilabel) or all(
        not each.name.endswith("-hide") for each in (*default_attacks(spec), *more_attacks(spec))
    )


def test_opaque_outputs_are_attacked_once_somebody_can_read_them():
    chosen = chosen_attacks(OUTPUTS, decide=len)
    assert [each.name for each in chosen if each.family == "evasion"] == ["pgd", "hopskipjump"]
    assert all(each.decide is len for each in chosen if each.family == "evasion")
    assert [each.name for each in chosen_attacks(OUTPUTS, ["square"], decide=len)] == ["square"]


@pytest.mark.parametrize(("spec", "online"), [(IMAGE, []), (TABLE, ["membership-base-online"])])
def test_shadows_learn_candidates_by_default_where_that_takes_seconds(spec, online):
    """Of images they train for up to eight times as many epochs, which takes minutes, and are there by name."""
    names = [each.name for each in default_attacks(spec) if each.family == "membership"]
    assert names == ["membership-loss", "membership-lira", "membership-bavaria", *online]
    assert chosen_attacks(spec, ["membership-base-online"])[0].threat.knowledge.endswith("each on half of them")


@pytest.mark.parametrize("bounds", [{"low": None}, {"high": None}])
def test_no_range_of_images_is_taken_for_granted(bounds):
    spec = replace(IMAGE, **bounds)
    with pytest.raises(MedwardError, match="uap takes its radius from the range of images"):
        chosen_attacks(spec)
    assert chosen_attacks(spec, ["membership-loss"])
    tens = replace(IMAGE, low=-5.0, high=5.0)
    assert chosen_attacks(tens)[0].epsilon == pytest.approx(10 * chosen_attacks(IMAGE)[0].epsilon)


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


def test_radii_are_those_of_the_threat():
    threat = ThreatPolicy(image=2.0, image_universal=6.0, table=0.5)
    for spec, single, universal in ((IMAGE, 2 / 255, 6 / 255), (TABLE, 0.5, 0.5)):
        scale = 1.0 if spec.modality == "tabular" else spec.high - spec.low
        attacks = (*default_attacks(spec, threat=threat), *more_attacks(spec, threat=threat))
        for attack in attacks:
            if isinstance(attack, PerImage | UniversalAttack):
                radius = universal if isinstance(attack, UniversalAttack) else single
                assert attack.epsilon == pytest.approx(radius * scale), attack.name
        chosen = chosen_attacks(spec, [each.name for each in attacks], threat=threat)
        assert chosen == attacks
