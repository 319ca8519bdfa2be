"""A folder of image files becomes splits as it stands, or one sentence says what must be said."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pytest
from PIL import Image
from support.dicom_files import dicom_file

from medward.guard.data.pixels import batch_of
from medward.guard.data.reading import Reading, read_data, spec_reading
from medward.guard.data.resized import resized_inputs
from medward.guard.data.split import check_split, conform_inputs, label_split
from medward.guard.errors import MedwardError
from medward.guard.preparation import Preparation
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, packed_findings

RNG = np.random.default_rng(5)


def grey(size=(6, 8)):
    return RNG.integers(0, 256, size, dtype=np.uint8)


def write(folder, **files):
    """Files by path with __ for /: arrays as PNG, bytes as they are."""
    for name, content in files.items():
        stem, _, end = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        else:
            path.write_bytes(content)
    return folder


def refusal(folder, reading=None):
    with pytest.raises(MedwardError) as refused:
        read_data(folder, reading or Reading())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_folders_are_classes_and_splits(tmp_path):
    a, b, c, d = (grey() for _ in range(4))
    write(tmp_path, train__well__2_png=b, train__sick__1_png=a, train__well__10_png=c, test__sick__1_png=d)
    splits = read_data(tmp_path, Reading())
    assert list(splits) == ["test", "train"]
    train = splits["train"]
    assert train.inputs.dtype == np.uint8
    np.testing.assert_array_equal(train.inputs, np.stack([a, c, b]))  # by path
    assert train.names.tolist() == ["sick", "well", "well"]
    assert train.patients is None
    assert splits["test"].names.tolist() == ["sick"]
    x, layout, bits = batch_of(train.inputs, low=0.0, high=1.0)
    assert (layout, bits) == ("NHW", 8)
    np.testing.assert_allclose(x[:, 0], train.inputs / 255)


def test_a_flat_folder_and_a_deep_tree_have_no_labels(tmp_path):
    flat = read_data(write(tmp_path / "flat", a_png=grey(), b_png=grey()), Reading())["data"]
    deep = read_data(write(tmp_path / "deep", p1__s1__a_png=grey(), p2__b_png=grey()), Reading())["data"]
    for split in (flat, deep):
        assert len(split) == 2
        assert split.names is None
        assert split.labels is None


def table(folder, header, *rows):
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize(
    ("target", "labels", "names"),
    [
        ("word", None, ["no, none", "yes", "yes"]),
        ("class", [0, 1, 1], None),
        ("age", [1.5, 2.0, 3.0], None),
        ("mass,cyst", [[0, 1], [1, 1], [1, 0]], None),
    ],
)
def test_a_csv_says_what_is_right_and_whose_it_is(tmp_path, target, labels, names):
    write(tmp_path, x__c_png=grey(), a_png=grey(), b_png=grey())
    header = ["word", "file", "class", "age", "mass", "cyst", "who"]
    rows = [
        ["yes", "c.png", 1, 3, 1, 0, "p9"],
        ["no, none", "a.png", 0, 1.5, 0, 1, "p1"],
        ["yes", "b.png", 1, 2, 1, 1, "p9"],
    ]
    path = table(tmp_path, header, *rows)
    split = read_data(tmp_path, Reading(labels=path, target=target, patient="who"))["data"]
    assert (None if split.labels is None else split.labels.tolist()) == labels
    assert (None if split.names is None else split.names.tolist()) == names
    a, b, c = split.patients
    assert b == c != a


@pytest.mark.parametrize("target", ["mass,cyst", "cyst,mass"])
def test_columns_of_findings_come_in_the_order_of_the_model_s(tmp_path, target):
    write(tmp_path, a_png=grey(), b_png=grey(), c_png=grey())
    path = table(tmp_path, ["file", "mass", "cyst"], ["a.png", 1, 0], ["b.png", 1, 1], ["c.png", 1, 0])
    split = read_data(tmp_path, Reading(labels=path, target=target))["data"]
    task = Multilabel(findings=("cyst", "mass"), output="logits", thresholds=(0.5, 0.5))
    ordered = packed_findings(np.array([[0, 1], [1, 1], [0, 1]]) == 1)
    assert label_split(check_split(split), task).labels.tolist() == ordered.tolist()
    for findings in (("cyst", "mas"), ("cyst", "mass", "node")):
        other = Multilabel(findings=findings, output="logits", thresholds=(0.5,) * len(findings))
        with pytest.raises(MedwardError, match="are not the model's findings"):
            label_split(split.take(slice(2)), other)


@pytest.mark.parametrize(
    ("header", "rows", "said", "words"),
    [
        (["file", "y"], [["a.png", 1]], {"target": "y"}, "no row for 1 of 2 files, 'b.png'"),
        (
            ["file", "y"],
            [["a.png", 1], ["b.png", 0], ["c.png", 1]],
            {"target": "y"},
            "names 1 files that are not there",
        ),
        (["file", "y"], [["a.png", 1], ["a.png", 0]], {"target": "y"}, "2 rows for 'a.png'"),
        (["file", "y"], [["a.png", 1], ["b.png", ""]], {"target": "y"}, "'y' is empty for 1 files"),
        (["file", "y"], [["a.png", 1], ["b.png", 0]], {}, "say with --target which column"),
        (["file", "y"], [["a.png", 1], ["b.png", 0]], {"target": "z"}, "needs one column 'z', it has file, y"),
        (["path", "y"], [["a.png", 1], ["b.png", 0]], {"target": "y"}, "needs one column 'file'"),
        (["file", "y"], [["a.png"], ["b.png", 0]], {"target": "y"}, "row 2 has 1 values for 2 columns"),
        (["file", "y", "z"], [["a.png", 1, "x"], ["b.png", 0, "y"]], {"target": "y,z"}, "'z' holds texts"),
        (["file", "y", "z"], [["a.png", 1, 2], ["b.png", 0, 0]], {"target": "y,z"}, "holds 0 and 1, got 2"),
        (["file", "y"], [["a.png", 1], ["b.png", 0]], {"target": "y", "patient": "who"}, "needs one column 'who'"),
    ],
)
def test_a_csv_that_leaves_something_open_is_refused(tmp_path, header, rows, said, words):
    write(tmp_path, a_png=grey(), b_png=grey())
    assert words in refusal(tmp_path, Reading(labels=table(tmp_path, header, *rows), **said))


def colour(size=(6, 8)):
    return RNG.integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("files", "said", "words"),
    [
        (
            {"a_png": (6, 8), "b_png": (6, 9)},
            {},
            "1 of 2 files cannot be used; b.png is 9 x 6 (width x height), a.png is 8 x 6",
        ),
        ({"a_png": (6, 8), "b_png": "colour"}, {}, "b.png is colour, a.png is grey; say --channels 1 or --channels 3"),
        (
            {"a_png": (6, 8), "b_png": b"x", "c_jpg": b""},
            {},
            "2 of 3 files cannot be used; b.png is not a readable PNG",
        ),
        ({"a_txt": b"x"}, {}, "not a readable npz"),
        ({"a_png": (6, 8), "sick__b_png": (6, 8)}, {}, "1 files lie beside the folders of classes, as 'a.png'"),
        ({"train__a_png": (6, 8), "more__b_png": (6, 8)}, {}, "splits and 1 files outside of them, as 'more/b.png'"),
        ({"a_dcm": "dicom"}, {}, "say --low and --high"),
        ({"a_dcm": "windowed"}, {"low": 0, "high": 1}, "--window file"),
        ({"a_png": (6, 8)}, {"target": "y"}, "say --labels too"),
        ({"a_png": (6, 8)}, {"channels": 4}, "files have 1 or 3 channels"),
    ],
)
def test_what_must_be_said_is_one_sentence(tmp_path, files, said, words):
    made = {
        "colour": colour(),
        "dicom": dicom_file(grey()),
        "windowed": dicom_file(grey(), WindowCenter=100, WindowWidth=50),
    }
    for name, each in files.items():
        write(tmp_path, **{name: made.get(each, each) if isinstance(each, str | bytes) else grey(each)})
    assert words in refusal(tmp_path, Reading(**said))


def test_sizes_and_channels_are_made_alike_as_said(tmp_path):
    first, second = grey((12, 16)), colour((9, 9))
    prepare = Preparation(resize=(6, 8))
    write(tmp_path, a_png=first, b_png=second)
    with pytest.raises(MedwardError, match=r"b.png is in colour .* the model takes grey images"):
        read_data(tmp_path, Reading(channels=1, prepare=prepare))
    second = np.stack([grey((9, 9))] * 3, axis=-1)
    write(tmp_path, b_png=second)
    one = read_data(tmp_path, Reading(channels=1, prepare=prepare))["data"].inputs
    three = read_data(tmp_path, Reading(channels=3, prepare=prepare))["data"].inputs
    assert one.shape == (2, 6, 8)
    assert three.shape == (2, 6, 8, 3)
    shrunk = np.asarray(Image.fromarray(first).resize((8, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(one[0], shrunk)
    np.testing.assert_array_equal(three[0], np.stack([shrunk] * 3, axis=-1))
    expected = np.asarray(Image.fromarray(second).resize((8, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(three[1], expected)


def test_dicom_files_say_whose_they_are_and_stand_beside_png(tmp_path, caplog):
    shown, plain = grey(), grey()
    files = {
        "a_dcm": dicom_file(shown, patient="Ann^01", study="1.2"),
        "b_x": dicom_file(shown, patient="Ann^01", study="1.3"),
        "c_dcm": dicom_file(shown, patient="", study="1.4"),
    }
    write(tmp_path / "d", **files, DICOMDIR_x=b"", hidden_txt=b"?")
    (tmp_path / "d" / ".DS_Store").write_bytes(b"")
    (tmp_path / "d" / "DICOMDIR").write_bytes(files["a_dcm"])
    with caplog.at_level(logging.INFO, "medward.data"):
        split = read_data(tmp_path / "d", Reading(low=-1, high=1))["data"]
    assert split.inputs.shape == (3, 1, 6, 8)
    np.testing.assert_allclose(split.inputs[0, 0], shown / 255.0 * 2 - 1, atol=1e-6)
    a, b, c = split.patients
    assert a == b != c
    assert "3 DICOM files; 8 x 6, grey; 2 patients, 3 studies; no labels" in caplog.text
    assert "not read, no PNG, JPEG, TIFF or DICOM: 3 files" in caplog.text
    assert "Ann" not in caplog.text
    write(tmp_path / "d", e_png=plain)
    with caplog.at_level(logging.INFO, "medward.data"):
        mixed = read_data(tmp_path / "d", Reading(low=-1, high=1))["data"]
    np.testing.assert_allclose(mixed.inputs[3, 0], plain / 255.0 * 2 - 1, atol=1e-6)
    assert mixed.patients is None
    assert "1 files do not say whose they are" in caplog.text


def test_deep_png_is_scaled_by_the_bits_that_were_said(tmp_path):
    deep = RNG.integers(0, 4096, (6, 8), dtype=np.uint16)
    write(tmp_path, a_png=deep)
    assert "16 bits a channel" in refusal(tmp_path)
    split = read_data(tmp_path, Reading(low=0, high=1, bits=12))["data"]
    x, _, bits = batch_of(split.inputs, low=0.0, high=1.0, bits=12)
    assert bits == 12
    np.testing.assert_allclose(x[0, 0], deep / 4095, atol=1e-6)


def test_progress_is_told(tmp_path):
    heard = []
    write(tmp_path, a_png=grey(), b_png=grey())
    read_data(tmp_path, Reading(), lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2)]


def image_spec(**more):
    task = Classification(classes=("a", "b"), output="logits")
    return ModelSpec(name="m", modality="image", shape=(1, 6, 8), task=task, low=0.0, high=1.0, **more)


def test_what_the_model_knows_is_read_with(tmp_path):
    prepare = Preparation(window=(10.0, 100.0), resize=(6, 8))
    reading = spec_reading(image_spec(prepare=prepare), Reading(target="y", low=5))
    assert (reading.low, reading.high, reading.channels, reading.target) == (0.0, 1.0, 1, "y")
    assert reading.prepare == prepare


@pytest.mark.parametrize("shape", [(2, 12, 16), (2, 12, 16, 3), (2, 3, 12, 16), (2, 12, 16, 1)])
def test_arrays_of_another_size_are_resized_as_files_are(shape):
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    prepare = Preparation(resize=(8, 10), crop=(6, 8))
    found = resized_inputs(images, prepare)
    last = np.moveaxis(images, 1, -1) if shape[1] == 3 else images
    expected = np.stack(
        [
            np.asarray(Image.fromarray(each.squeeze()).resize((10, 8), Image.Resampling.BILINEAR))[1:7, 1:9]
            for each in last
        ]
    )
    shown = np.moveaxis(found, 1, -1) if shape[1] == 3 else found
    np.testing.assert_array_equal(shown.reshape(expected.shape), expected)
    assert resized_inputs(found, prepare) is found  # it has the size already
    floats = images / np.float32(255)
    assert resized_inputs(floats, prepare) is floats
    assert resized_inputs(images, Preparation()) is images


def test_an_npz_of_another_size_is_conformed():
    images = RNG.integers(0, 256, (3, 12, 16), dtype=np.uint8)
    spec = image_spec(layout="NHW", bits=8, prepare=Preparation(resize=(6, 8)))
    shrunk = np.asarray(Image.fromarray(images[2]).resize((8, 6), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(conform_inputs(images, spec)[2, 0], shrunk / 255, atol=1e-6)
    with pytest.raises(MedwardError, match="expected images of shape"):
        conform_inputs(images, image_spec(layout="NHW", bits=8))


def test_files_of_two_depths_have_no_common_white(tmp_path):
    deep = (grey().astype(np.uint16)) * 16
    write(tmp_path, a_dcm=dicom_file(deep, bits=12), b_dcm=dicom_file(deep, bits=16))
    said = Reading(low=0, high=1, prepare=Preparation(window="pixels"))
    with pytest.raises(
        MedwardError, match=r"a.dcm stores 12 bits and b.dcm 16, so white differs in both; say --window"
    ):
        read_data(tmp_path, said)
    (tmp_path / "b.dcm").unlink()
    assert read_data(tmp_path, said)["data"].bits == 12
