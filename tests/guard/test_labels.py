"""What labels and patients mean: places, names, and never one taken for the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.data.labels import patient_numbers, read_labels, task_labels
from medward.guard.errors import MedwardError
from medward.guard.tasks.classification import Classification

NAMES = ("normal", "mass", "effusion")


def read(column, classes=NAMES):
    """Labels as places in `classes`."""
    numbers, names = read_labels(column, len(column), "labels")
    return task_labels(names, numbers, Classification(classes=tuple(classes), output="logits")).tolist()


@pytest.mark.parametrize(
    ("column", "places"),
    [
        (np.array([2, 0, 2]), [2, 0, 2]),
        (np.array([2, 2, 2], np.uint8), [2, 2, 2]),  # classes that a split lacks shift nothing
        (np.array([[2], [0], [1]]), [2, 0, 1]),
        (np.array([2.0, 0.0, 1.0]), [2, 0, 1]),
        (np.array([True, False, True]), [1, 0, 1]),
        (np.array(["effusion", "normal", "effusion"]), [2, 0, 2]),
        (np.array([["effusion"], ["effusion"]]), [2, 2]),
        (np.array(["mass", "effusion"], object), [1, 2]),
        (np.array([b"mass", b"effusion"]), [1, 2]),
        (np.array([2, 0], object), [2, 0]),
        (["mass", "normal"], [1, 0]),
    ],
)
def test_labels_are_places_or_names(column, places):
    assert read(column) == places


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (
            np.array(["effusion", "Effusion"]),
            r"names of the classes normal, mass, effusion, or their places; got 'Effusion'",
        ),
        (np.array(["2", "0"]), "got '0'"),
        (np.array([0, 3]), r"must be 0 to 2, got 0 to 3; give the places of the classes normal, mass, effusion"),
        (np.array([-1, 0]), "must be 0 to 2, got -1 to 0"),
        (np.array([0.5, 1]), "whole numbers or names, got 0.5"),
        (np.array([np.nan, 1]), "whole numbers or names, got nan"),
        (np.array(["mass", ""]), "1 of 2 are empty"),
        (np.array(["mass", 1], object), "all whole numbers or all names, got Python objects of type int, str"),
        (np.array([None, "mass"], object), "NoneType, str"),
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "whole numbers or names, got dtype datetime64"),
        (np.eye(3), r"9 entries for 3 rows: shape \(3, 3\) is one-hot; .*labels.argmax\(axis=1\)"),
        (np.eye(3)[[0, 0]], "one-hot"),
        (np.zeros((4, 14), np.uint8), "56 entries for 4 rows: .*several findings per row.*"),
        (np.array([[1, 1], [0, 1], [0, 0]]), "several findings"),
    ],
)
def test_labels_that_name_no_class_are_refused(column, says):
    with pytest.raises(MedwardError, match=says):
        read(column)


@pytest.mark.parametrize(
    ("classes", "column", "places"),
    [
        (("0", "1"), np.array([0, 1]), [0, 1]),
        (("0", "1"), np.array(["0", "1"]), [0, 1]),
        (("1", "2"), np.array([1, 2]), [0, 1]),  # 2 is no place: these are names
        (("1", "2"), np.array([0, 1]), [0, 1]),  # 0 is no name: these are places
        (("2", "5"), np.array([5, 5]), [1, 1]),
        (("1.0", "2.0"), np.array([1.0, 2.0]), [0, 1]),
        (("1", "2"), np.array(["1", "1"]), [0, 0]),
        (("False", "True"), np.array([True, False]), [1, 0]),
        (("False", "True"), np.array(["True", "False"]), [1, 0]),
    ],
)
def test_classes_named_by_numbers(classes, column, places):
    assert read(column, classes) == places


@pytest.mark.parametrize(
    ("classes", "column"),
    [(("1", "2"), np.array([1, 1])), (("1", "0"), np.array([0, 1])), (("True", "False"), np.array([True, False]))],
)
def test_numbers_that_mean_other_classes_as_names_than_as_places_are_refused(classes, column):
    with pytest.raises(MedwardError, match=r"may be names .* or places .*labels.astype\(str\)"):
        read(column, classes)


@given(st.lists(st.sampled_from(NAMES), min_size=1), st.permutations(NAMES))
def test_named_labels_follow_their_class_wherever_it_stands(labels, classes):
    assert [classes[place] for place in read(np.array(labels), tuple(classes))] == labels


PATIENT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(PATIENT, min_size=1, max_size=20), st.data())
def test_patients_are_the_same_when_their_texts_are_in_any_split(patients, data):
    whole = patient_numbers(np.array(patients), len(patients), "patients")
    some = data.draw(st.lists(st.sampled_from(patients), min_size=1))
    again = patient_numbers(np.array(some, object), len(some), "patients")
    assert [dict(zip(patients, whole.tolist(), strict=True))[each] for each in some] == again.tolist()
    assert len(set(whole.tolist())) == len(set(patients))


def test_a_patient_s_number_may_be_written_as_text_but_007_is_another():
    numbers = patient_numbers(np.array(["7", "007", "9223372036854775808", "-7"]), 4, "patients")
    assert numbers[0] == patient_numbers(np.array([7.0]), 1, "patients")[0] == 7
    assert len(set(numbers.tolist())) == 4


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (np.array(["a", ""]), "patients: 1 of 2 are empty"),
        (np.array([1, np.nan]), "patients must be whole numbers or names, got nan"),
        (np.array([1, 2, 3]), "patients has 3 entries for 2 rows"),
    ],
)
def test_unknown_patients_are_refused(column, says):
    with pytest.raises(MedwardError, match=says):
        patient_numbers(column, 2, "patients")


def test_bytes_that_are_not_utf8_are_one_sentence():
    with pytest.raises(MedwardError, match="bytes that are not UTF-8"):
        read(np.array(["m\xe9lanome".encode("latin-1"), b"mass"]))


def test_python_objects_are_looked_at_to_the_last():
    column = np.array([*["p1"] * 10_001, None], object)
    with pytest.raises(MedwardError, match="Python objects of type NoneType, str"):
        patient_numbers(column, len(column), "patients")


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_numpy_scalars_as_python_objects_are_numbers(kind):
    assert read(np.array([kind(2), kind(0)], object)) == [2, 0]
    assert read(np.array([np.str_("mass"), np.str_("normal")], object)) == [1, 0]
