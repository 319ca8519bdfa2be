"""What is certified of answers: on which scale, for which columns, at which price, and what of it leaves."""

import numpy as np
import pytest
from support.certified import forest, greys, policy, protected

from medward.guard.certify.certifier import Certifier, certified_scale, still_places
from medward.guard.columns import Column
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.release.capacity import radius_bits
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.threat_policy import ThreatPolicy
from medward.guard.types import CertifiedRadius, Level, Query

COLUMNS = (
    Column(name="age"),
    Column(name="sex", values=("f", "m")),
    Column(name="lactate", missing=True),
    Column(name="site", immutable=True),
)


def table(columns=COLUMNS, width=5):
    task = Classification(classes=("no", "yes"), output="logits")
    return ModelSpec(name="m", modality="tabular", shape=(width,), task=task, columns=columns)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certifier")
    return {kind: protected(folder / kind, kind) for kind in ("classes", "findings", "number")}


def certifier(bundle):
    found = Certifier.of(bundle.bounds, bundle.policy, bundle.model.spec)
    assert found is not None
    return found


def test_categories_indicators_and_what_nobody_changes_have_radius_zero():
    assert still_places(COLUMNS) == (1, 3, 4)
    scale = certified_scale(table(), (10.0, 0.5, 2.0, 1.0, 0.2), ThreatPolicy())
    assert scale.tolist() == [10.0, 0.0, 2.0, 0.0, 0.0]


def test_an_error_of_measurement_takes_the_place_of_a_deviation():
    threat = ThreatPolicy(table=0.25, measurement_error={"lactate": 0.3})
    scale = certified_scale(table(), (10.0, 0.5, 2.0, 1.0, 0.2), threat)
    assert 0.25 * scale[2] == pytest.approx(0.3)
    assert scale[0] == 10.0


def test_a_table_of_categories_alone_and_an_image_without_a_range_have_no_unit():
    with pytest.raises(MedwardError, match="no column of its table is a number that changes"):
        certified_scale(table((Column(name="sex", values=("f", "m")),), 1), (0.5,), ThreatPolicy())
    bare = ModelSpec(name="m", modality="image", shape=(1, 2, 2), task=table().task)
    with pytest.raises(MedwardError, match="needs the range of inputs"):
        certified_scale(bare, (), ThreatPolicy())


def test_the_radius_is_that_of_the_threat_unless_it_is_said():
    chosen = policy(threat={"image": 3.0, "table": 0.5})
    assert chosen.certify.certified_at("image", chosen.threat) == 3.0
    assert chosen.certify.certified_at("tabular", chosen.threat) == 0.5
    assert policy(radius=7.0).certify.certified_at("image", ThreatPolicy()) == 7.0


@pytest.mark.parametrize(("grey", "radius"), [(128, 0.0), (129, 1.0), (130, 2.0), (132, 4.0), (135, 4.0), (136, 8.0)])
def test_the_radius_is_the_largest_of_the_grid_that_holds(bundles, grey, radius):
    bundle = bundles["classes"]  # decides at 127.5
    found = certifier(bundle).certify(greys(grey), bundle.model.predict(greys(grey)).scores)
    assert found.radius.tolist() == [radius]
    assert found.holds.tolist() == [radius >= 4]


def test_a_certificate_of_another_decision_certifies_nothing(bundles):
    bundle, rows = bundles["classes"], greys(200)
    scores = bundle.model.predict(rows).scores
    assert certifier(bundle).certify(rows, scores).holds.all()
    assert certifier(bundle).certify(rows, scores[:, ::-1]).radius.tolist() == [0.0]


def test_a_row_of_findings_has_the_least_radius_of_them(bundles):
    bundle, rows = bundles["findings"], greys(130, 200)
    found = certifier(bundle).certify(rows, bundle.model.predict(rows).scores)
    assert found.findings.tolist() == [[2.0, 8.0], [8.0, 8.0]]
    assert found.radius.tolist() == [2.0, 8.0]


def test_a_number_is_certified_while_it_moves_by_no_more_than_the_tolerance(bundles):
    bundle, rows = bundles["number"], greys(130)
    value = bundle.model.predict(rows).scores
    found = certifier(bundle).certify(rows, value)
    low, high = found.interval[0]
    assert low == pytest.approx(16 * 126 / 255, abs=1e-3)
    assert high == pytest.approx(16 * 134 / 255, abs=1e-3)
    assert found.radius.tolist() == [4.0]  # 16 * 4 / 255 is 0.25, the tolerance 0.5, and 8 grey levels are 0.502


def test_a_label_tells_whether_it_is_certified_and_what_is_withheld_nothing(bundles):
    one = certifier(bundles["classes"])
    found = CertifiedRadius(asked=4.0, radius=np.array([8.0, 2.0, 8.0, 8.0]))
    told = one.released(found, [Level.FULL, Level.LABEL, Level.LABEL, Level.WITHHELD])
    assert told.radius[:3].tolist() == [8.0, 0.0, 4.0]
    assert np.isnan(told.radius[3])
    assert not told.holds[3]


def test_an_interval_is_rounded_outwards_and_leaves_with_the_number(bundles):
    one = certifier(bundles["number"])
    ends = np.array([[7.7, 8.2]] * 3)
    found = CertifiedRadius(asked=4.0, radius=np.full(3, 4.0), interval=ends)
    told = one.released(found, [Level.FULL, Level.ROUNDED, Level.LABEL]).interval
    assert told[:2].tolist() == [[7.7, 8.2], [7.5, 8.5]]
    assert np.isnan(told[2]).all()


def test_certificates_are_priced_by_what_they_can_say(bundles):
    classes, findings, number = (certifier(bundles[kind]) for kind in ("classes", "findings", "number"))
    assert classes.bits(Level.ROUNDED) == pytest.approx(np.log2(5))
    assert classes.bits(Level.LABEL) == pytest.approx(np.log2(5))  # the time it takes tells the radius
    assert classes.bits(Level.WITHHELD) == 1.0
    assert findings.bits(Level.FULL) == pytest.approx(2 * np.log2(5))
    assert findings.bits(Level.LABEL) == pytest.approx(2 * np.log2(5))
    assert number.bits(Level.LABEL) == pytest.approx(radius_bits(4))
    assert number.bits(Level.ROUNDED) == pytest.approx(radius_bits(4) + 128)


def test_no_point_within_a_certified_radius_of_a_forest_is_decided_otherwise(tmp_path):
    made = forest(tmp_path / "forest")
    bundle, rng = made.bundle, np.random.default_rng(3)
    model, rows = bundle.model, made.rows[:60]
    scores = model.predict(rows).scores
    one = certifier(bundle)
    found = one.certify(rows, scores)
    decided = model.spec.decide(scores)
    assert 20 < found.holds.sum() < 60
    for _ in range(50):
        signs = rng.choice([-1.0, 1.0], size=rows.shape) * rng.uniform(0.9, 1, size=rows.shape)
        moved = rows + (found.radius[:, None] * one.scale * signs).astype(np.float32) * np.float32(1 - 1e-6)
        assert (model.spec.decide(model.predict(moved.astype(np.float32)).scores) == decided)[found.radius > 0].all()


def test_rows_are_certified_one_by_one_whatever_the_batch(bundles):
    bundle, rows = bundles["classes"], greys(128, 130, 133, 140)
    guard = bundle.guard(ephemeral=True)
    together = guard.answer(Query(principal=("a",), inputs=rows)).certified.radius.tolist()
    alone = [guard.answer(Query(principal=("a",), inputs=rows[[i]])).certified.radius[0] for i in range(4)]
    assert together == alone == [0.0, 2.0, 4.0, 8.0]


def test_without_the_policy_nothing_is_certified(tmp_path):
    bundle = protected(tmp_path / "plain", chosen=Policy(on_error="flag"))
    assert bundle.bounds is None
    assert bundle.card.certified is None
    answer = bundle.guard(ephemeral=True).answer(Query(principal=("a",), inputs=greys(200)))
    assert answer.certified is None
    assert "certified" not in answer.as_dict()
