"""A fingerprint of a small network on a table: clones stand out, independent models do not; what is refused."""

from __future__ import annotations

import stat
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medward
from medward.attacks.ownership.candidates import Candidates
from medward.attacks.ownership.compare import compare, fingerprint_power
from medward.attacks.ownership.fingerprint import FingerprintSettings, chosen_fingerprint, fingerprint
from medward.attacks.ownership.fingerprint_file import load_fingerprint, save_fingerprint
from medward.attacks.ownership.suspects import ANSWERS_FILE, read_answers, suspect_answers, write_inputs
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy

CLASSES = ("benign", "malignant")
SETTINGS = FingerprintSettings(choosing=6, null=9, inputs=60, candidates=3000)
ALPHA = 0.1  # what nine models support


def cases(rng, n):
    """Six measurements; a sixth of the labels is wrong, so that every model learns its own nonsense from them."""
    x = rng.normal(size=(n, 6)).astype(np.float32)
    truth = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(np.int64)
    return Split(x, np.where(rng.random(n) < 0.17, 1 - truth, truth))


def train(inputs, labels, seed):
    """The owner's recipe."""
    network = MLPClassifier((32,), solver="lbfgs", max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), network).fit(inputs, labels)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    rng = np.random.default_rng(0)
    splits = {name: cases(rng, n) for name, n in {"train": 250, "calibration": 200, "holdout": 400}.items()}
    model = train(splits["train"].inputs, splits["train"].labels, 1)
    folder = tmp_path_factory.mktemp("owner")
    bundle = medward.protect(
        model, splits["calibration"], Policy(on_error="withhold"), folder / "bundle", classes=CLASSES
    )
    found = fingerprint(bundle, splits, settings=SETTINGS, recipe=train)
    return SimpleNamespace(bundle=bundle, splits=splits, model=model, found=found, folder=folder)


def stolen(owner, seed):
    """A clone of 1,500 answers to invented rows, by a learner that the owner does not use."""
    rng = np.random.default_rng(seed)
    asked = rng.normal(size=(1500, 6)).astype(np.float32)
    return train(asked, owner.model.predict(asked), seed)


def test_clones_are_evidence_and_independent_models_of_either_sort_are_not(owner):
    clones = [compare(owner.found, stolen(owner, seed).predict(owner.found.inputs), alpha=ALPHA) for seed in range(3)]
    assert [each.judgement for each in clones] == ["evidence"] * 3
    assert {each.p_value for each in clones} == {1 / (1 + SETTINGS.null)}
    data = owner.splits["train"]
    others = [train(data.inputs, data.labels, 50 + seed).predict(owner.found.inputs) for seed in range(6)]
    claimed = [compare(owner.found, each, alpha=ALPHA).judgement == "evidence" for each in others]
    assert sum(claimed) <= 2  # of 6 at 0.1; clones are 3 of 3


def test_the_model_itself_is_evidence_and_its_opposite_is_not(owner):
    power = fingerprint_power(owner.found, alpha=ALPHA)
    assert power.judgement == "evidence"
    assert all(way.agreement == 1.0 for way in power.ways)
    opposite = compare(owner.found, 1 - owner.found.own, alpha=ALPHA)
    assert opposite.judgement == "no evidence"
    assert opposite.p_value == 1.0
    assert "never proof" in power.sentences()[0]
    assert "No evidence" in opposite.sentences()[0]


def test_inputs_are_of_both_classes_and_seldom_decided_alike_by_independent_models(owner):
    found = owner.found
    for way in range(len(found.way_names)):
        assert len(np.unique(found.own[found.ways == way])) == 2
    np.testing.assert_array_equal(found.own, owner.model.predict(found.inputs))
    assert (found.null == found.own).mean() < 0.6
    assert (found.clones == found.own).mean() > 0.6


def test_too_few_models_support_no_evidence_and_say_so(owner):
    told = fingerprint_power(owner.found, alpha=0.01)
    assert told.judgement == "cannot tell"
    assert told.p_value == pytest.approx(0.1)
    assert any("99 are needed" in each for each in told.power_sentences())


def test_where_clones_of_the_owner_do_not_stand_out_nothing_is_told(owner):
    blind = replace(owner.found, clones=owner.found.null[: len(owner.found.clones)])
    told = compare(blind, owner.found.null[-1], alpha=ALPHA)
    assert told.judgement == "cannot tell"
    assert any("Cannot tell of clones" in each for each in told.sentences())


def test_without_the_owner_s_recipe_it_says_what_was_not_tried(owner):
    others = owner.found.null_sorts == 0
    found = replace(owner.found, null=owner.found.null[others], null_sorts=owner.found.null_sorts[others])
    untried, tried = (compare(each, each.own, alpha=ALPHA) for each in (found, owner.found))
    assert (untried.judgement, tried.judgement) == ("clone or recipe", "evidence")
    assert untried.stands_out
    assert "none by its own recipe was tried (--recipe)" in untried.sentences()[0]
    assert "or trained by a recipe like its own, on these or similar data: it agrees" in tried.sentences()[0]
    assert not any("--recipe" in each for each in tried.sentences())
    assert any("no suspect can be called evidence" in each for each in fingerprint_power(found).power_sentences())


def test_no_evidence_says_how_many_clones_it_rests_on(owner):
    told = compare(owner.found, owner.found.null[-1], alpha=ALPHA)
    assert told.judgement == "no evidence"
    assert "(2 of 2 networks made for this did) would probably have stood out" in told.sentences()[1]
    assert "such as a forest, may not" in told.sentences()[1]


@pytest.mark.parametrize("by_recipe", [True, False])
def test_a_recipe_that_leaves_nothing_to_chance_is_named_where_nothing_can_be_shown(owner, by_recipe):
    own = np.arange(300) % 2
    rows = owner.splits["holdout"].inputs[:300]
    alike = np.stack([own] * 4)  # models that decide all as the model does
    with pytest.raises(MedwardError, match="so nothing could be shown") as refused:
        chosen_fingerprint(
            owner.found.spec,
            "",
            Candidates(inputs=rows, kinds=own, names=("a", "b"), rows=own),
            own,
            alike,
            alike,
            [alike, alike],
            null_names=("",) * 4,
            null_sorts=np.array([0, 0, 1, 1]) if by_recipe else np.zeros(4, int),
            most=60,
            seed=0,
        )
    assert ("your recipe may give nearly the same model every time" in str(refused.value)) == by_recipe


@pytest.mark.parametrize(("learned", "doubts"), [(True, 0), (False, 1)])
def test_a_model_that_is_no_better_on_its_training_rows_is_warned_of(owner, caplog, learned, doubts):
    others = owner.splits["calibration"], owner.splits["holdout"]
    rows = owner.splits["train"] if learned else cases(np.random.default_rng(9), 250)
    splits = {"train": rows, "calibration": others[0], "holdout": others[1]}
    quick = FingerprintSettings(choosing=2, null=1, inputs=40, candidates=700)
    fingerprint(owner.bundle, splits, settings=quick)
    assert sum("not clearly more (Fisher's exact test" in each.getMessage() for each in caplog.records) == doubts


def test_a_suspect_may_leave_inputs_unanswered_but_not_most(owner):
    found, rng = owner.found, np.random.default_rng(0)
    some = np.where(rng.random(len(found)) < 0.3, -1, found.own)
    told = compare(found, some, alpha=ALPHA)
    assert told.judgement == "evidence"
    assert told.answered == (some >= 0).sum()
    assert told.answered_p_value == pytest.approx(0.1)
    assert any("not answered and count as disagreement" in each for each in told.sentences())
    assert compare(found, found.own, alpha=ALPHA).answered_p_value is None
    with pytest.raises(MedwardError, match="at least half are needed"):
        compare(found, np.where(rng.random(len(found)) < 0.8, -1, found.own))


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        (lambda own: own[:-1], "one class number for each"),
        (lambda own: own.astype(float), "one class number for each"),
        (lambda own: own + 5, "class numbers are 0 to 1"),
        (lambda own: own - 3, "class numbers are 0 to 1"),
    ],
)
def test_other_answers_are_refused(owner, decided, said):
    with pytest.raises(MedwardError, match=said):
        compare(owner.found, decided(owner.found.own))


def test_a_file_comes_back_equal_is_its_owner_s_alone_and_is_refused_when_changed(owner, tmp_path):
    path = tmp_path / "fingerprint.npz"
    save_fingerprint(path, owner.found)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    back = load_fingerprint(path)
    assert back.spec == owner.found.spec
    assert back.bundle == owner.bundle.digest
    for name in ("inputs", "own", "ways", "null", "null_sorts", "clones", "clone_ways"):
        np.testing.assert_array_equal(getattr(back, name), getattr(owner.found, name))
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "own": 1 - arrays["own"]})
    with pytest.raises(IntegrityError, match="was changed"):
        load_fingerprint(path)
    np.savez(path, inputs=np.zeros((3, 6)))
    with pytest.raises(MedwardError, match="is no fingerprint"):
        load_fingerprint(path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(MedwardError, match="is no fingerprint, or is damaged"):
        load_fingerprint(path)
    with pytest.raises(MedwardError, match="no such file"):
        load_fingerprint(tmp_path / "none.npz")


def test_inputs_are_asked_elsewhere_and_answers_read_back_in_any_order(owner, tmp_path):
    folder = tmp_path / "ask"
    write_inputs(owner.found, folder)
    with np.load(folder / "inputs.npz") as archive:
        np.testing.assert_array_equal(archive["inputs"], owner.found.inputs)
    lines = (folder / ANSWERS_FILE).read_text().splitlines()
    assert lines[0] == "input,label"
    told = [
        f"{line.split(',')[0]},{CLASSES[own].upper()}" for line, own in zip(lines[1:], owner.found.own, strict=True)
    ]
    (folder / ANSWERS_FILE).write_text("\n".join([lines[0], *reversed(told[:-1])]) + "\n")
    decided = suspect_answers(owner.found, str(folder))
    np.testing.assert_array_equal(decided[:-1], owner.found.own[:-1])
    assert decided[-1] == -1
    with pytest.raises(MedwardError, match="not empty"):
        write_inputs(owner.found, folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input,label\nnone,benign\n", "is no input of this fingerprint"),
        ("input,label\n0000,nonsense\n", "is no class"),
        ("input,label\n0000,benign\n0000,benign\n", "answered twice"),
        ("file,class\na,b\n", "needs columns input and label"),
        ("", "needs columns input and label"),
    ],
)
def test_answers_that_cannot_be_read_are_refused(owner, tmp_path, text, said):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(MedwardError, match=said):
        read_answers(owner.found, path)


@pytest.mark.parametrize(
    ("classes", "labels", "decided"),
    [
        (("1", "2", "3"), ["1", "2", "3"], [0, 1, 2]),
        (("1", "0"), ["1", "0"], [0, 1]),
        (("0", "1"), ["1", "0"], [1, 0]),
        (("no", "1"), ["no", "1"], [0, 1]),
        (("no", "yes"), ["1", "no"], [1, 0]),
    ],
)
def test_class_names_that_are_digits_are_names(owner, tmp_path, classes, labels, decided):
    spec = replace(owner.found.spec, task=replace(owner.found.spec.task, classes=classes))
    found = replace(owner.found, spec=spec)
    rest = len(found) - len(labels)
    np.savez(tmp_path / "labels.npz", labels=np.array([*labels, *labels[:1] * rest]))
    assert read_answers(found, tmp_path / "labels.npz")[: len(labels)].tolist() == decided


def test_numbers_are_refused_where_class_names_are_digits_of_their_own(owner, tmp_path):
    spec = replace(owner.found.spec, task=replace(owner.found.spec.task, classes=("1", "2")))
    np.savez(tmp_path / "labels.npz", labels=np.zeros(len(owner.found), int))
    with pytest.raises(MedwardError, match="label '0' is no class; there are 1, 2, which are names"):
        read_answers(replace(owner.found, spec=spec), tmp_path / "labels.npz")


def test_suspects_are_compared_with_models_of_all_rows(owner):
    """A competitor with the same rows must be one more like them; a bootstrap has fewer, and agrees less."""
    assert {name.rpartition(", ")[2] for name in owner.found.null_names if ", " in name} == {"all rows"}


def test_labels_of_an_npz_and_bundles_are_read_too(owner, tmp_path):
    np.savez(tmp_path / "labels.npz", labels=np.array(CLASSES)[owner.found.own])
    np.testing.assert_array_equal(suspect_answers(owner.found, str(tmp_path / "labels.npz")), owner.found.own)
    np.testing.assert_array_equal(suspect_answers(owner.found, str(owner.folder / "bundle")), owner.found.own)
    np.savez(tmp_path / "short.npz", labels=np.zeros(3, int))
    with pytest.raises(MedwardError, match="has 3 labels"):
        suspect_answers(owner.found, str(tmp_path / "short.npz"))


def test_a_suspect_of_other_classes_or_inputs_is_refused(owner, tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    labels = np.array(["cat", "dog"])[(rows[:, 0] > 0).astype(int)]
    medward.protect(train(rows, labels, 0), Split(rows), Policy(on_error="withhold"), tmp_path / "wide")
    with pytest.raises(MedwardError, match="takes inputs of shape"):
        suspect_answers(owner.found, str(tmp_path / "wide"))
    six = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    medward.protect(train(six, labels, 0), Split(six), Policy(on_error="withhold"), tmp_path / "other")
    with pytest.raises(MedwardError, match="decides cat, dog"):
        suspect_answers(owner.found, str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda splits: {"holdout": splits["holdout"]}, 'needs a split "train"'),
        (lambda splits: {"train": splits["train"]}, "not trained on"),
        (lambda splits: {**splits, "train": Split(splits["train"].inputs)}, "no labels"),
        (lambda splits: {**splits, "train": splits["train"].take(slice(0, 20))}, "need 50 rows"),
    ],
)
def test_data_that_lacks_rows_is_refused(owner, change, said):
    with pytest.raises(MedwardError, match=said):
        fingerprint(owner.bundle, change(owner.splits), settings=SETTINGS)


def test_a_recipe_that_fails_is_said_to(owner):
    def broken(inputs, labels, seed):
        raise ValueError("no GPU here")

    with pytest.raises(MedwardError, match="recipe: failed on 250 rows: ValueError: no GPU here"):
        fingerprint(owner.bundle, owner.splits, settings=replace(SETTINGS, candidates=200), recipe=broken)


def test_settings_have_bounds():
    with pytest.raises(MedwardError, match="null must be at least 1"):
        FingerprintSettings(null=0)


def test_a_way_that_was_not_answered_cannot_be_told(owner):
    found = owner.found
    # Clones of that way stand out by its inputs alone: on those of the other they are as independent ones.
    elsewhere = (found.clone_ways == 1)[:, None] & (found.ways != 1)
    found = replace(found, clones=np.where(elsewhere, found.null[0], found.clones))
    assert fingerprint_power(found, alpha=ALPHA).ways[1].powerful
    told = compare(found, np.where(found.ways == 1, -1, found.null[0]), alpha=ALPHA)
    assert not told.ways[1].powerful  # the owner's clones would not have stood out by such answers
    assert any(f"Cannot tell of clones made by asking about {found.way_names[1]}" in each for each in told.sentences())


@pytest.mark.parametrize("left", [0, -1])
def test_who_says_one_class_alone_is_no_evidence(owner, left):
    told = compare(owner.found, np.where(owner.found.own == 0, 0, left), alpha=ALPHA)
    assert told.p_value == 1.0
    assert told.answered_p_value in (None, 1.0)
    assert told.judgement != "evidence"
    assert told.ways[0].agreement == 0.5
    assert any("answers without looking" in each for each in told.sentences())


def test_a_way_without_inputs_of_two_classes_cannot_be_told(owner):
    kept = np.flatnonzero((owner.found.ways == 0) | (owner.found.own == 1))
    parts = {name: getattr(owner.found, name)[..., kept] for name in ("own", "ways", "null", "clones")}
    found = replace(owner.found, inputs=owner.found.inputs[kept], **parts)
    told = compare(found, found.own, alpha=ALPHA)
    assert told.absent == owner.found.way_names[1:]
    assert any("too few inputs" in each for each in told.power_sentences())
    assert not any("too few inputs" in each for each in told.sentences())  # it is evidence anyway


def test_a_null_of_models_that_learned_nothing_is_refused(owner):
    rng = np.random.default_rng(0)
    train = owner.splits["train"]
    constant = Split(np.zeros_like(train.inputs), rng.permutation(train.labels))
    with pytest.raises(MedwardError, match="learned nothing of the 250 rows"):
        fingerprint(owner.bundle, {**owner.splits, "train": constant}, settings=replace(SETTINGS, candidates=200))
