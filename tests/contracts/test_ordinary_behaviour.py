"""Every ordinary behaviour: the same for a seed, such inputs as the model takes, and what it says and nothing else."""

import numpy as np
import pytest

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, VisitSettings, asked_in_order
from medward.attacks.validation.ordinary.suite import BEHAVIOURS, suited_behaviours
from medward.guard.errors import MedwardError

SETTINGS = VisitSettings(accounts=3, queries=40, rounds=4, rows=60)
LOW, HIGH = -1.0, 3.0


def images(side=28, channels=1, n=90):
    rng = np.random.default_rng(side)
    y, x = np.meshgrid(*(np.linspace(-1, 1, side),) * 2, indexing="ij")
    centres = rng.uniform(-0.5, 0.5, (n, channels, 2, 1, 1))
    blobs = np.exp(-((x - centres[..., 0, :, :]) ** 2 + (y - centres[..., 1, :, :]) ** 2) * 4) * (0.7 + 0.3 * x)
    shares = 0.1 + 0.7 * blobs + 0.01 * rng.random((n, channels, side, side))
    return (LOW + (HIGH - LOW) * shares).astype(np.float32)


def table(n=90):
    rng = np.random.default_rng(1)
    measured = rng.normal(50, 5, (n, 4))
    return np.concatenate([measured, rng.integers(0, 2, (n, 1)), rng.integers(0, 9, (n, 1))], axis=1).astype(np.float32)


def classes(n=90):
    return np.repeat([0, 1, 2], [n - 30, 20, 10])[np.random.default_rng(2).permutation(n)]


TRAFFIC = {
    "grey": Traffic.of(images(), classes(), "image", LOW, HIGH),
    "colour": Traffic.of(images(32, 3), classes(), "image", LOW, HIGH),
    "large": Traffic.of(images(64), classes(), "image", LOW, HIGH),
    "table": Traffic.of(table(), classes(), "tabular", None, None),
}
ROWS = [(name, each) for name, traffic in TRAFFIC.items() for each in suited_behaviours(traffic)]


def visits(name, behaviour, seed=0):
    return behaviour.visits(TRAFFIC[name], np.random.default_rng(seed), SETTINGS)


@pytest.mark.parametrize(("name", "behaviour"), ROWS, ids=[f"{name}-{each.name}" for name, each in ROWS])
def test_a_behaviour_is_the_same_for_a_seed_and_keeps_what_the_model_takes(name, behaviour):
    traffic, before = TRAFFIC[name], TRAFFIC[name].inputs.copy()
    made, again = visits(name, behaviour), visits(name, behaviour)
    np.testing.assert_array_equal(traffic.inputs, before, "rows of the site are not written on")
    np.testing.assert_array_equal(made.rows, again.rows)
    assert len(made.orders) == SETTINGS.accounts
    for order, same in zip(made.orders, again.orders, strict=True):
        np.testing.assert_array_equal(order, same)
        assert len(order) > 0
        assert 0 <= order.min() <= order.max() < len(made.rows)
    assert made.rows.dtype == np.float32
    assert made.rows.shape[1:] == traffic.inputs.shape[1:]
    assert np.isfinite(made.rows).all()
    assert traffic.low <= made.rows.min() <= made.rows.max() <= traffic.high
    if behaviour.group not in ("loops", "retries"):
        other = visits(name, behaviour, seed=1)
        assert not all(np.array_equal(a, b) for a, b in zip(made.orders, other.orders, strict=True))


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda each: each.name)
def test_what_is_not_forgiven_has_a_remedy_of_one_sentence(behaviour):
    assert behaviour.forgiven == (not behaviour.remedy)
    if behaviour.remedy:
        assert behaviour.remedy.endswith(".")
        assert behaviour.remedy.count(". ") == 0


def test_names_are_unique_and_nothing_is_both_forgiven_and_remedied():
    names = [each.name for each in BEHAVIOURS]
    assert len(set(names)) == len(names) >= 35
    make = asked_in_order(lambda known, rng, settings: np.arange(3))
    with pytest.raises(ValueError, match="has a remedy, and only that"):
        Behaviour(name="x", group="y", visits=make, forgiven=True, remedy="None.")
    with pytest.raises(ValueError, match="has a remedy, and only that"):
        Behaviour(name="x", group="y", visits=make, forgiven=False)


def behaviour(name):
    return next(each for each in BEHAVIOURS if each.name == name)


def unchanged(name, made):
    """Whether only the order is new: rows are the site's own."""
    return made.rows is TRAFFIC[name].inputs


@pytest.mark.parametrize("kind", ["grey", "table"])
@pytest.mark.parametrize("size", [5, 17, 25, 50])
def test_a_loop_sends_a_fixed_set_again_and_again(kind, size):
    made = visits(kind, behaviour(f"{size} fixed inputs, again and again"))
    assert unchanged(kind, made)
    assert made.batch == 1
    for order in made.orders:
        assert len(np.unique(order)) == size
        np.testing.assert_array_equal(order, np.tile(order[:size], SETTINGS.rounds))
    assert len({tuple(order[:size]) for order in made.orders}) == SETTINGS.accounts


def test_a_daily_batch_is_one_query():
    for size in (17, 25):
        made = visits("grey", behaviour(f"{size} fixed inputs, as one batch a day"))
        assert made.batch == size
        assert all(len(order) % size == 0 for order in made.orders)


def test_retries_repeat_requests_in_a_row_and_leave_the_others():
    storm = visits("grey", behaviour("one request 50 times in a row"))
    for order in storm.orders:
        rows, counts = np.unique(order, return_counts=True)
        assert sorted(counts)[-2:] == [1, 50]
        assert (np.diff(np.flatnonzero(order == rows[counts.argmax()])) == 1).all()
    for order in visits("grey", behaviour("bursts of retries")).orders:
        runs = 1 + (np.diff(order) != 0).sum()
        assert runs == len(np.unique(order)) == SETTINGS.queries < len(order)


def test_specialists_send_their_classes_and_every_row_once():
    known = TRAFFIC["grey"].classes
    for order in visits("grey", behaviour("the rarest class alone")).orders:
        assert (known[order] == 2).all()
        assert len(np.unique(order)) == len(order) == 10
    alone = [np.unique(known[order]).tolist() for order in visits("grey", behaviour("one class alone, any")).orders]
    assert alone == [[0], [1], [2]]
    for order in visits("grey", behaviour("half of the rarest class")).orders:
        assert (known[order] == 2).sum() == (known[order] != 2).sum() == 10
    for order in visits("grey", behaviour("teaching set, classes alike")).orders:
        assert np.bincount(known[order]).tolist() == [13, 13, 10]
        assert len(np.unique(order)) == len(order)
    for order in visits("grey", behaviour("night shift, runs of one class")).orders:
        assert len(np.unique(order)) == len(order) == SETTINGS.queries
        assert (np.diff(known[order]) != 0).sum() < 12


def test_a_patient_is_one_and_differs_a_little():
    rows, made = TRAFFIC["grey"].inputs, visits("grey", behaviour("one patient again and again"))
    moved = np.stack([rows[:, :, 1 + i : 27 + i, 1 + j : 27 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    for order in made.orders:
        sent = made.rows[np.unique(order)]
        away = np.stack([np.abs(moved - each[:, 1:-1, 1:-1]).mean(axis=(2, 3, 4)).min(axis=0) for each in sent])
        assert len(np.unique(away.argmin(axis=1))) == 1, "all are nearest to the same row, once moved back"
        assert away.min(axis=1).max() < 0.02 * (HIGH - LOW)
        assert len(np.unique(sent, axis=0)) == len(sent) > 10
    spread = TRAFFIC["table"].inputs.std(axis=0)
    results = visits("table", behaviour("one patient again and again, new results"))
    for order in results.orders:
        sent = results.rows[np.unique(order)]
        assert (np.ptp(sent[:, :4], axis=0) < 0.07 * spread[:4]).all()
        assert (np.ptp(sent[:, 4:], axis=0) == 0).all(), "whole numbers stay"
        assert len(np.unique(sent, axis=0)) == len(sent) > 10


@pytest.mark.parametrize("kind", ["grey", "colour", "large"])
@pytest.mark.parametrize("name", ["side marker", "laterality letter", "line of text"])
def test_an_overlay_is_the_same_on_every_image_and_touches_little_else(kind, name):
    traffic, made = TRAFFIC[kind], visits(kind, behaviour(name))
    plain = traffic.inputs[: len(made.rows)]
    touched = (made.rows != plain).any(axis=(0, 1))
    assert 0 < touched.mean() < (0.35 if name == "line of text" else 0.06)
    assert made.rows[:, :, touched].max() == HIGH
    np.testing.assert_array_equal(made.rows[:, :, ~touched], plain[:, :, ~touched])
    assert not touched[[0, -1]].any(), "there is an edge"
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    size = touched.shape[0]
    if name == "side marker":
        assert (rows[-1] - rows[0], columns[-1] - columns[0]) == (2, 2)
        assert columns[-1] < size / 4
    if name == "laterality letter":
        assert columns[0] > size / 2
        assert rows[-1] - rows[0] <= 0.16 * size
    if name == "line of text":
        assert rows[0] > size / 2


KERNELS = ("bilinear, up and down", "bilinear, down and up", "bicubic, down and up", "Lanczos, down and up")


@pytest.mark.parametrize("name", [*KERNELS, "border of 1 px cut, resized", "JPEG 95", "JPEG 75", "JPEG 50"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_resampling_and_compression_change_every_image_a_little(kind, name):
    made = visits(kind, behaviour(name))
    plain = TRAFFIC[kind].inputs[: len(made.rows)]
    away = np.abs(made.rows - plain).mean(axis=(1, 2, 3)) / (HIGH - LOW)
    assert (away > 0).all()
    assert away.max() < 0.06
    flat = Traffic.of(np.full_like(TRAFFIC[kind].inputs, 1.0), classes(), "image", LOW, HIGH)
    same = behaviour(name).visits(flat, np.random.default_rng(0), SETTINGS).rows
    np.testing.assert_allclose(same, 1.0, atol=0.01, err_msg="an even image stays as it is")


def test_worse_jpeg_changes_more():
    plain = TRAFFIC["grey"].inputs[: SETTINGS.rows]
    away = [np.abs(visits("grey", behaviour(f"JPEG {each}")).rows - plain).mean() for each in (95, 75, 50)]
    assert away == sorted(away)


def test_geometry_does_what_it_says():
    plain = TRAFFIC["grey"].inputs[: SETTINGS.rows]
    turned = visits("grey", behaviour("turned by 180 degrees")).rows
    np.testing.assert_array_equal(turned, plain[:, :, ::-1, ::-1])
    quarter = visits("grey", behaviour("turned by 90 degrees")).rows
    np.testing.assert_array_equal(np.rot90(quarter, -1, (2, 3)), plain)
    shifted = visits("grey", behaviour("shifted by 3 px")).rows
    np.testing.assert_array_equal(shifted[:, :, 3:, 3:], plain[:, :, :-3, :-3])
    np.testing.assert_array_equal(shifted[:, :, 0], shifted[:, :, 3])
    oblong = Traffic.of(images()[:, :, :20], classes(), "image", LOW, HIGH)
    assert behaviour("turned by 90 degrees").visits(oblong, np.random.default_rng(0), SETTINGS).rows.shape[2:] == (
        20,
        28,
    )


def test_grey_values_do_what_they_say():
    plain = (TRAFFIC["grey"].inputs[: SETTINGS.rows] - LOW) / (HIGH - LOW)

    def shares(name):
        return (visits("grey", behaviour(name)).rows - LOW) / (HIGH - LOW)

    np.testing.assert_allclose(shares("inverted"), 1 - plain, atol=1e-6)
    np.testing.assert_allclose(shares("gamma 1.15"), plain**1.15, atol=1e-6)
    np.testing.assert_allclose(shares("6% brighter"), plain + 0.06, atol=1e-6)
    rounded = shares("12-bit export, rounded")
    assert 0 < np.abs(rounded - plain).max() <= 0.5 / 4095 + 1e-6
    np.testing.assert_allclose(4095 * rounded, np.rint(4095 * rounded), atol=1e-3)
    np.testing.assert_allclose(shares("12-bit export, read as 16"), plain * 4095 / 65535, atol=1e-6)


def test_a_scanner_is_one_of_several_for_each_account():
    made, n = visits("grey", behaviour("a mild change of scanner")), SETTINGS.rows
    assert len(made.rows) == 3 * n
    assert [np.unique(order // n).tolist() for order in made.orders] == [[0], [1], [2]]
    away = np.abs(made.rows.reshape(3, n, -1) - TRAFFIC["grey"].inputs[:n].reshape(n, -1)).mean(axis=(1, 2))
    assert (away > 0).all()
    assert (away < 0.1 * (HIGH - LOW)).all()
    assert len(np.unique(away)) == 3


@pytest.mark.parametrize("kind", ["grey", "colour", "table"])
def test_phantoms_come_first_or_among_patients(kind):
    n = SETTINGS.rows
    first = visits(kind, behaviour("5 phantoms, then patients"))
    np.testing.assert_array_equal(first.rows[:n], TRAFFIC[kind].inputs[:n])
    assert len(np.unique(first.rows[n:], axis=0)) == len(first.rows) - n == 10
    for order in first.orders:
        assert (order[:5] >= n).all()
        assert len(np.unique(order[:5])) == 5
        assert (order[5:] < n).all()
    many = VisitSettings(accounts=40, queries=50, rows=60)
    for share in (0.02, 0.1):
        made = behaviour(f"phantoms among patients, {share:.0%}").visits(TRAFFIC[kind], np.random.default_rng(0), many)
        found = np.mean(np.concatenate(made.orders) >= n)
        assert share / 2 < found < 2 * share


def test_one_value_of_each_row_is_missing():
    plain = TRAFFIC["table"].inputs
    for name, value in (
        ("one value missing, its mean sent", plain.mean(axis=0)),
        ("one value missing, 0 sent", np.zeros(6)),
        ("one value missing, -1 sent", -np.ones(6)),
    ):
        rows = visits("table", behaviour(name)).rows
        other = rows != plain[: len(rows)]
        assert other.sum(axis=1).max() == 1
        assert other[:, :4].any(axis=0).all(), "any measured column may be missing"
        assert not other[:, 4].any(), "what is yes or no is not taken for measured"
        np.testing.assert_allclose(rows[other], np.broadcast_to(value, rows.shape)[other], rtol=1e-5)


@pytest.mark.parametrize(("said", "factor"), [("/ 10", 0.1), ("x 10", 10.0)])
def test_one_column_has_another_unit_in_all_rows_of_an_account(said, factor):
    made, n = visits("table", behaviour(f"one column in another unit, {said}")), SETTINGS.rows
    for account, order in enumerate(made.orders):
        assert np.unique(order // n).tolist() == [account]
    for version in made.rows.reshape(5, n, -1):
        other = (version != TRAFFIC["table"].inputs[:n]).any(axis=0)
        assert other.sum() == 1
        np.testing.assert_allclose(version[:, other], factor * TRAFFIC["table"].inputs[:n][:, other], rtol=1e-6)


def test_volumes_and_tiny_images_are_asked_about_in_other_orders_only():
    volumes = Traffic.of(np.zeros((9, 1, 4, 4, 4), np.float32), np.arange(9) % 2, "image", 0, 1)
    tiny = Traffic.of(np.zeros((9, 1, 6, 6), np.float32), np.arange(9) % 2, "image", 0, 1)
    for traffic in (volumes, tiny):
        names = [each.name for each in suited_behaviours(traffic)]
        assert "side marker" not in names
        assert "17 fixed inputs, again and again" in names
        for each in suited_behaviours(traffic):
            made = each.visits(traffic, np.random.default_rng(0), SETTINGS)
            assert made.rows.shape[1:] == traffic.inputs.shape[1:]


def test_who_knows_one_class_has_no_specialists():
    alone = Traffic.of(images(), np.zeros(90, np.int64), "image", LOW, HIGH)
    groups = {each.group for each in suited_behaviours(alone)}
    assert not groups & {"specialists", "teaching", "shifts"}
    assert {"loops", "overlays", "phantoms"} <= groups


def test_traffic_of_one_row_is_refused():
    with pytest.raises(MedwardError, match="needs two rows or more with a class each, got 1 rows"):
        Traffic.of(table(1), np.zeros(1, np.int64), "tabular", None, None)
