"""Tables and datasets as users have them become splits: labels, patients and splits by the names of columns."""

from __future__ import annotations

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.clinical import INPUTS, NUMBERS, OPEN, PIPELINES, sepsis_table

from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.bundle.site import bundle_reading, calibrate_site
from medward.guard.columns import learn_columns
from medward.guard.data.objects import as_splits, benign_split
from medward.guard.data.reading import Reading, read_data
from medward.guard.data.split import Split, conformed_split
from medward.guard.errors import MedwardError
from medward.guard.named_values import Table

FRAME = sepsis_table(40)
READING = Reading(target="sepsis", patient="mrn")


def written(folder, frame, form):
    """The path of `frame` in a file of one form."""
    path = folder / f"patients.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    return path


def same_table(split):
    assert isinstance(split.inputs, Table)
    assert split.names.tolist() == FRAME["sepsis"].tolist()
    assert len(np.unique(split.patients)) == 40
    assert list(split.inputs.columns) == [name for name in FRAME.columns if name not in ("sepsis", "mrn")]
    pd.testing.assert_frame_equal(
        pd.DataFrame(dict(split.inputs.columns)).astype(object).fillna("gap"),
        FRAME[list(split.inputs.columns)].astype(object).fillna("gap"),
        check_dtype=False,
    )


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_a_file_of_a_table_is_one_split(form, tmp_path):
    splits = read_data(written(tmp_path, FRAME, form), READING)
    assert list(splits) == ["data"]
    same_table(splits["data"])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_says_which_split_a_row_is_of(form, tmp_path):
    divided = FRAME.assign(split=["train", "test"] * 20)
    splits = read_data(written(tmp_path, divided, form), READING)
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "test": 20}
    assert "split" not in splits["test"].inputs.columns
    taken = Reading(target="sepsis", columns=learn_columns(splits["test"].inputs))
    with pytest.raises(MedwardError, match=r"column 'split': says which split a row is of, train.* got 'left'; rename"):
        as_splits(FRAME.assign(split="left"), taken)


@pytest.mark.parametrize(
    ("reading", "text", "says"),
    [
        (Reading(target="septic"), "a,sepsis\n1,0\n", "target: there is no column 'septic'; there are a, sepsis"),
        (Reading(patient="id"), "a,sepsis\n1,0\n", "patient: there is no column 'id'"),
        (Reading(target="a", patient="a"), "a,sepsis\n1,0\n", "both are the column 'a'"),
        (Reading(target="a"), "a\n1\n", "the table has no columns besides a"),
        (Reading(), "a,b\n", "there are no rows below the names"),
        (Reading(), "", "cannot be read as a csv table"),
        (Reading(patient="p"), "a,p\n1,x\n2,\n", "column 'p': 1 rows have no patient"),
        (Reading(target="y"), "a,y\n1,0\n2,\n", "got nan; leave such rows out"),
    ],
)
def test_what_a_table_does_not_say(reading, text, says, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(MedwardError) as refused:
        read_data(path, reading)
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)


def test_objects_are_read_as_files_are():
    arrays = {name: FRAME[name].to_numpy() for name in FRAME}
    rows = FRAME.astype(object).where(FRAME.notna(), None).to_dict("records")
    for given in (FRAME, arrays, rows, {"data": FRAME}):
        same_table(as_splits(given, READING)["data"])
    given = Split(FRAME[NUMBERS], np.arange(40) % 2)
    assert list(as_splits({"test": given}, Reading())["test"].inputs.columns) == NUMBERS
    assert list(as_splits(given, Reading())) == ["data"]


def test_two_arrays_are_inputs_and_labels():
    for labels, held in ((np.arange(5) % 2, "labels"), (np.array(list("ababa")), "names")):
        split = as_splits({"train": (np.zeros((5, 3)), labels)}, Reading())["train"]
        assert split.inputs.shape == (5, 3)
        assert (getattr(split, held) == labels).all()


class Slices(torch.utils.data.Dataset):
    """Images and their classes, as training code has them."""

    def __len__(self):
        return 6

    def __getitem__(self, at):
        return torch.full((1, 4, 4), at / 6), at % 2


def test_datasets_of_torch_are_pairs():
    split = as_splits(Slices(), Reading())["data"]
    assert split.inputs.shape == (6, 1, 4, 4)
    assert split.labels.tolist() == [0, 1, 0, 1, 0, 1]
    bare = as_splits({"test": torch.utils.data.TensorDataset(torch.zeros(5, 3))}, Reading())["test"]
    assert (bare.inputs.shape, bare.labels) == ((5, 3), None)
    three = torch.utils.data.TensorDataset(torch.zeros(5, 3), torch.zeros(5), torch.zeros(5))
    with pytest.raises(MedwardError, match="have 3 parts"):
        as_splits(three, Reading())
    with pytest.raises(MedwardError, match="got a torch DataLoader"):
        as_splits(torch.utils.data.DataLoader(Slices()), Reading())


def test_datasets_of_hugging_face_are_tables_or_images():
    words = datasets.ClassLabel(names=["healthy", "septic"])
    table = datasets.Dataset.from_dict({"age": [1.0, None, 3.0], "ward": ["a", "b", "b"], "label": [0, 1, 1]})
    split = as_splits(table.cast_column("label", words), Reading())["data"]
    assert split.names.tolist() == ["healthy", "septic", "septic"]
    assert list(split.inputs.columns) == ["age", "ward"]
    images = datasets.Dataset.from_dict(
        {"scan": [Image.fromarray(np.full((4, 4), each, np.uint8)) for each in range(3)], "id": ["p", "q", "q"]}
    ).cast_column("scan", datasets.Image())
    split = as_splits({"test": images}, Reading(patient="id"))["test"]
    assert (split.inputs.shape, split.inputs.dtype, split.labels) == ((3, 4, 4), np.uint8, None)
    assert split.patients[1] == split.patients[2] != split.patients[0]
    both = datasets.DatasetDict({"train": table, "test": table})
    assert list(as_splits(both, Reading(target="label"))) == ["train", "test"]
    with pytest.raises(MedwardError, match="target: there is no column 'y'"):
        as_splits(table, Reading(target="y"))


def test_a_table_of_numbers_is_the_array_of_it(tmp_path):
    """A model that knows no names takes all columns in the order of the file."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)).astype(np.float32), columns=["a", "b", "c"])
    net = torch.nn.Linear(3, 2)
    said = {"classes": ["no", "yes"], "output": "logits"}
    named = protect(net, frame, OPEN, tmp_path / "a", **said)
    plain = protect(net, Split(frame.to_numpy()), OPEN, tmp_path / "b", **said)
    np.testing.assert_array_equal(
        conformed_split(as_splits(frame[["c", "a", "b"]], Reading())["data"], named.model.spec).inputs,
        conformed_split(Split(frame.to_numpy()), plain.model.spec).inputs,
    )
    with pytest.raises(MedwardError, match="the table has gaps or texts"):
        conformed_split(as_splits(FRAME, Reading())["data"], plain.model.spec)
    with pytest.raises(MedwardError, match="these inputs have no names"):
        protect(net, Split(frame.to_numpy()), OPEN, tmp_path / "c", integer=["a"], **said)
    site = calibrate_site(tmp_path / "a", frame.assign(extra=1), "clinic")
    assert site.card.sites["clinic"].sizes["benign"] == 300
    assert load_bundle(tmp_path / "a").card.target is None


def test_the_benign_split_is_said_or_known():
    splits = {"train": Split(np.zeros((1, 2))), "val": Split(np.zeros((2, 2)))}
    assert len(benign_split(splits, None, "x")) == 2
    assert len(benign_split(splits, "train", "x")) == 1
    for wanted, says in [("test", "there is no split 'test'"), (None, "name the benign split")]:
        with pytest.raises(MedwardError, match=says):
            benign_split({"train": splits["train"]}, wanted, "x")


def test_several_columns_are_findings_in_the_model_s_order(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.random(120), "crp": rng.random(120), "mass": rng.integers(0, 2, 120), "cyst": 1})
    (read,) = as_splits(frame, Reading(target="mass, cyst")).values()
    assert list(read.inputs.columns) == ["age", "crp"]
    np.testing.assert_array_equal(read.labels, frame[["mass", "cyst"]])
    net, said = torch.nn.Linear(2, 2), {"classes": ("mass", "cyst"), "task": "multilabel", "output": "logits"}
    for order in ("mass,cyst", "cyst,mass"):
        made = protect(net, frame, OPEN, tmp_path / order, target=order, **said)
        assert made.card.quality.findings["mass"].positives == frame["mass"].sum()
    with pytest.raises(MedwardError, match=r"column 'age': several target columns are findings, each 0 or 1"):
        as_splits(frame, Reading(target="age,mass"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,lactate\n63,1,2\n64,2,3\n", "line 2 has 3 cells for 2 columns"),
        ("age,lactate\n63,1,\n64,2,\n", "line 2 has 3 cells for 2 columns"),
        ("age,lactate\n63,1\n64\n", "line 3 has 1 cells for 2 columns"),
        ("age,age\n63,1\n", "two columns have the name 'age'; rename one"),
        ("age;lactate\n63;1\n", "separated by semicolons"),
    ],
)
def test_a_csv_that_pandas_would_mend_is_refused(text, words, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(MedwardError, match=words):
        read_data(tmp_path / "t.csv", Reading())


def test_blank_lines_quoted_commas_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "t.csv").write_text('\ufeffage,"ward, floor"\n\n63,"ER, 1"\n64,\n', encoding="utf-8")
    columns = read_data(tmp_path / "t.csv", Reading())["data"].inputs.columns
    assert {name: values.tolist() for name, values in columns.items()} == {
        "age": [63.0, 64.0],
        "ward, floor": ["ER, 1", None],
    }


@pytest.mark.parametrize("ids", [("007", "7"), ("9007199254740993", "9007199254740992"), ("1" * 30, "1" * 29 + "2")])
def test_patients_of_a_csv_stay_apart(ids, tmp_path):
    (tmp_path / "t.csv").write_text("who,age\n" + "".join(f"{each},63\n" for each in (*ids, ids[0])))
    patients = read_data(tmp_path / "t.csv", Reading(patient="who"))["data"].patients.tolist()
    assert patients[0] == patients[2] != patients[1]


def test_patients_that_double_precision_does_not_tell_apart_are_refused():
    frame = pd.DataFrame({"who": [2**53, 2**53 + 1], "age": [63, 64]})
    with pytest.raises(MedwardError, match="neighbours look alike; give texts"):
        as_splits(frame, Reading(patient="who"))
    assert as_splits(frame.assign(who=[1, 2]), Reading(patient="who"))["data"].patients.tolist() == [1, 2]


def test_only_names_that_a_bundle_recalls_may_be_absent(tmp_path):
    model = PIPELINES["logistic"]().fit(sepsis_table(400, seed=9)[INPUTS[:5]], sepsis_table(400, seed=9)["sepsis"])
    made = protect(model, sepsis_table(), OPEN, tmp_path / "b", target="sepsis", patient="mrn")
    bare = sepsis_table(seed=3)[INPUTS[:5]]
    recalled = as_splits(bare, bundle_reading(made, Reading()))["data"]
    assert (recalled.names, recalled.patients) == (None, None)
    for said in (Reading(target="sepsiss"), Reading(patient="nrm")):
        with pytest.raises(MedwardError, match=r"there is no column '(sepsiss|nrm)'"):
            as_splits(sepsis_table(seed=3), bundle_reading(made, said))


def test_a_folder_without_labels_is_read_for_a_bundle_that_recalls_them(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    assert len(read_data(tmp_path, Reading(target="y", recalled=("y",)))["data"]) == 1
    with pytest.raises(MedwardError, match="say --labels too"):
        read_data(tmp_path, Reading(target="y"))
