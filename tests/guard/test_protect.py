"""`protect` on data as people have it: what it understood is said, kept, and refused where two readings are left."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from medward.guard.bundle import folder as bundle
from medward.guard.bundle.card import canonical_json, sha256
from medward.guard.bundle.make import protect
from medward.guard.bundle.site import calibrate_site
from medward.guard.data.split import Split, conform_inputs, load_npz
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy

POLICY = Policy(on_error="withhold")
rng = np.random.default_rng(3)
ROWS = rng.normal(size=(300, 4))
TRUTH = np.where(ROWS[:, 0] + rng.normal(size=300) / 2 > 0, "sick", "healthy")
SCANS = rng.integers(0, 256, (300, 6, 6)).astype(np.uint8)
CUBES = rng.integers(0, 256, (300, 6, 6, 6)).astype(np.uint8)
SPEC = {"output": "logits", "classes": ("dark", "bright")}


def bright(batch):
    """Says whether the first channel is bright."""
    mean = batch[:, 0].mean(axis=(1, 2))
    return 9 * np.stack([0.5 - mean, mean - 0.5], axis=1)


@pytest.fixture(scope="module")
def model():
    return LogisticRegression().fit(ROWS[:, :], TRUTH)


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "medward.data")
    return lambda: [each.getMessage() for each in caplog.records if each.name == "medward.data"]


def test_one_line_says_what_was_understood_of_a_table_and_another_how_well_the_model_does(tmp_path, model, told):
    patients = np.array([f"P-{each // 2}" for each in range(300)], object)
    made = protect(model, Split(ROWS, TRUTH, patients), POLICY, tmp_path / "b")
    line, quality = told()
    counts = {name: int((name == TRUTH).sum()) for name in ("healthy", "sick")}
    assert line.startswith("data: 300 rows of 150 patients; 4 columns, values -")
    assert line.endswith(f"classes healthy {counts['healthy']}, sick {counts['sick']}")
    assert quality == f"model: {made.card.quality}"
    own = model.predict(ROWS)
    assert made.card.quality.accuracy == pytest.approx((own == TRUTH).mean())
    assert made.card.quality.auc > 0.9
    assert bundle.load_bundle(tmp_path / "b").card.quality == made.card.quality


def test_one_line_says_how_images_were_read_and_the_bundle_reads_others_alike(tmp_path, told):
    made = protect(bright, Split(CUBES), POLICY, tmp_path / "b", low=0, high=1, layout="NHWC", **SPEC)
    assert told() == [
        "data: 300 rows; images 6 x 6 x 6, values 0 to 1; no labels; 8-bit pixels, channels last",
    ]
    assert (made.card.spec.layout, made.card.spec.bits, made.card.quality) == ("NHWC", 8, None)
    spec = bundle.load_bundle(tmp_path / "b", allow_code=True).card.spec
    np.testing.assert_allclose(conform_inputs(CUBES, spec), np.moveaxis(CUBES, -1, 1) / 255, atol=1e-6)


def test_bits_are_kept_and_deep_arrays_of_a_site_are_read_by_them(tmp_path, told):
    deep = rng.integers(0, 4096, (300, 6, 6)).astype(np.uint16)
    protect(bright, Split(deep), POLICY, tmp_path / "b", low=0, high=1, bits=12, **SPEC)
    made = calibrate_site(tmp_path / "b", Split(deep[::-1].copy()), "clinic", allow_code=True)
    assert made.card.spec.bits == 12
    assert told()[1].startswith("clinic: 300 rows; images 1 x 6 x 6, values 0")
    with pytest.raises(MedwardError, match="uint8 images, but the model was protected on 12-bit"):
        calibrate_site(tmp_path / "b", Split(SCANS), "clinic", allow_code=True)


@pytest.mark.parametrize(
    ("split", "options", "says"),
    [
        (Split(SCANS), {}, "--low 0 --high 1"),
        (Split(CUBES), {"low": 0, "high": 1}, "--layout"),
        (Split(SCANS.astype(np.float32) / 255), {"low": 0, "high": 1}, "--layout NHW"),
        (Split(SCANS[:, None] / 255), {"low": 0, "high": 255}, "next to nothing of the range 0 to 255"),
        (Split(SCANS[:, None] / 1.0), {"low": 0, "high": 1}, "values must be <= 1"),
        (Split(SCANS, np.full(300, "odd")), {"low": 0, "high": 1}, "names of the classes dark, bright"),
    ],
)
def test_data_of_two_readings_leaves_no_bundle(tmp_path, split, options, says):
    with pytest.raises(MedwardError, match=says):
        protect(bright, split, POLICY, tmp_path / "b", **options, **SPEC)
    assert not (tmp_path / "b").exists()


def test_an_onnx_file_that_says_its_shape_is_fed_no_other(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0, axes=[1, 2]),
             helper.make_node("Gemm", ["m", "w"], ["scores"])]  # fmt: skip
    weights = onnx.numpy_helper.from_array(rng.normal(size=(3, 2)).astype(np.float32), "w")
    put = helper.make_tensor_value_info("x", kind, ["n", 8, 9, 3])
    out = helper.make_tensor_value_info("scores", kind, ["n", 2])
    graph = helper.make_graph(nodes, "last", [put], [out], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    rgb = Split(rng.integers(0, 256, (300, 8, 9, 3)).astype(np.uint8))
    with pytest.raises(MedwardError, match=r"the model takes \(8, 9, 3\); this release feeds channels first"):
        protect(str(tmp_path / "m.onnx"), rgb, POLICY, tmp_path / "b", low=0, high=1, **SPEC)


def test_names_that_look_exchanged_are_refused_and_a_doubt_is_only_told(tmp_path, told):
    scans = np.where(np.arange(300)[:, None, None] % 2, SCANS // 2 + 120, SCANS // 2)
    labels = np.arange(300) % 2
    options = {"low": 0, "high": 1, "output": "logits"}
    with pytest.raises(MedwardError, match=r"names look exchanged.*--classes in the order of the scores"):
        protect(bright, Split(scans, 1 - labels), POLICY, tmp_path / "b", classes=("dark", "bright"), **options)
    named = np.array(["dark", "bright"])[labels]
    with pytest.raises(MedwardError, match="names look exchanged"):
        protect(bright, Split(scans, named), POLICY, tmp_path / "b", classes=("bright", "dark"), **options)
    assert told() == []
    coin = rng.integers(0, 2, 300)
    made = protect(bright, Split(scans, coin), POLICY, tmp_path / "b", classes=("dark", "bright"), **options)
    assert made.card.quality.chance > 0.05
    assert "no better than chance" in told()[-1]


def test_a_bundle_made_before_layouts_were_kept_is_read_and_guesses_nothing(tmp_path, model):
    path = protect(model, Split(ROWS, TRUTH), POLICY, tmp_path / "b").path / "card.json"
    content = json.loads(path.read_bytes())
    for field in ("layout", "bits"):
        del content["spec"][field]
    del content["quality"], content["digest"]
    path.write_bytes(canonical_json({**content, "digest": sha256(canonical_json(content))}))
    old = bundle.load_bundle(tmp_path / "b").card
    assert (old.quality, old.spec.layout, old.spec.bits) == (None, None, None)
    with pytest.raises(MedwardError, match="does not show which axis"):
        conform_inputs(CUBES, replace(old.spec, modality="image", shape=(6, 6, 6), low=0.0, high=1.0))


def test_a_place_that_is_taken_is_refused_before_the_work(tmp_path, model, told):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(MedwardError, match="is not empty"):
        protect(model, Split(ROWS), POLICY, tmp_path / "b")
    assert told() == []


def test_a_table_with_named_columns_gives_the_model_s_in_its_order(tmp_path, told):
    names = ["age", "sex", "bmi", "hb"]
    frame = pd.DataFrame(ROWS, columns=names)
    model = LogisticRegression().fit(frame, TRUTH)
    made = protect(model, Split(frame[["sex", "age", "hb", "bmi"]].assign(site=1), TRUTH), POLICY, tmp_path / "b")
    assert [each.name for each in made.model.spec.columns] == names
    assert made.card.quality.accuracy > 0.8
    assert "left out, for the model does not take them: site" in told()
    with pytest.raises(MedwardError, match="column 'hb' is absent; the model was fitted on age, sex, bmi, hb"):
        protect(model, Split(frame[["sex", "age", "bmi"]]), POLICY, tmp_path / "c")
    unnamed = LogisticRegression().fit(ROWS, TRUTH)
    assert protect(unnamed, Split(frame), POLICY, tmp_path / "c").model.spec.columns == made.model.spec.columns


def test_nothing_that_was_given_is_written_to(tmp_path):
    given = [SCANS.copy(), np.array(["dark", "bright"])[np.arange(300) % 2], np.arange(300).astype(str)]
    for array in given:
        array.flags.writeable = False
    protect(bright, Split(*given), POLICY, tmp_path / "b", low=0, high=1, **SPEC)
    calibrate_site(tmp_path / "b", Split(*given), "clinic", allow_code=True)
    np.testing.assert_array_equal(given[0], SCANS)


def test_what_an_npz_holds_under_other_names_is_said(tmp_path, told):
    np.savez(tmp_path / "d.npz", train_images=SCANS, train_label=np.zeros(300), y_val=np.zeros(3))
    assert load_npz(tmp_path / "d.npz")["train"].labels is None
    assert told() == [f"{tmp_path / 'd.npz'}: not read, for no split has these names: train_label, y_val"]
