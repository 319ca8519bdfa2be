"""Folders of DICOM and PNG files: protect -> calibrate -> serve -> upload, and answers are the model's own."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from starlette.testclient import TestClient
from support.dicom_files import dicom_file
from support.journeys import importable

from medward.attacks import validate as entry
from medward.guard.bundle.folder import load_bundle
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.integrations.cli import main
from medward.integrations.serving import load_app
from medward.integrations.serving.predict import FILE_TYPES

pytestmark = pytest.mark.data
CODE = """
import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(16, 2))
"""
POLICY = 'on_error = "withhold"\n[release]\nlevel = "full"\n[screen]\naction = "allow"\n'
FORMS = (None, RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1)
WINDOW, INTERCEPT = (900.0, 1700.0), -200
ROWS = 120


@pytest.fixture(scope="module")
def radiographs():
    arrays = np.load(Path(os.environ["MEDWARD_DATA"]) / "nih_cxr" / "nih_cxr_64.npz")
    pick = np.random.default_rng(0).permutation(len(arrays["images"]))[:ROWS]
    return arrays["images"][pick], arrays["labels"][pick], arrays["patient"][pick]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "net_for_images.py").write_text(CODE)
    (folder / "policy.toml").write_text(POLICY)
    return folder


def run(desk, *arguments):
    with importable(desk), pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        with pytest.raises(SystemExit) as done:
            main([str(each) for each in arguments])
    return done.value.code


def own_scores(desk, batch):
    with importable(desk):
        from net_for_images import net
    with torch.no_grad():
        return net(torch.from_numpy(np.array(batch, np.float32))).numpy()


def served(desk, bundle):
    return TestClient(
        load_app(bundle, state=desk / f"state-{bundle.name}", anonymous=True), raise_server_exceptions=False
    )


def stored_12_bits(image):
    """What a detector may have stored of `image`: 12 bits, with some that its 8 do not show."""
    return (image.astype(np.uint16) * 16 + (image.astype(np.uint16) * 7) % 16).astype(np.uint16)


def shown(pixels, photometric):
    """An independent reading: rescaled, windowed as PS3.3 C.11.2.1.2.1 words it, inverted, resized, without pydicom."""
    units = pixels.astype(np.float64) + INTERCEPT
    centre, width = WINDOW
    share = np.where(units <= centre - 0.5 - (width - 1) / 2, 0.0, (units - (centre - 0.5)) / (width - 1) + 0.5)
    share = np.where(units > centre - 0.5 + (width - 1) / 2, 1.0, share)
    share = 1 - share if photometric == "MONOCHROME1" else share
    return np.asarray(Image.fromarray(share.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def dicoms(desk, radiographs):
    """A folder of classes of DICOM files in all forms, the bundle of it, and the files with their values."""
    files = []
    for index, (image, label, patient) in enumerate(zip(*radiographs, strict=True)):
        photometric = f"MONOCHROME{1 + index % 2}"
        file = dicom_file(
            stored_12_bits(image),
            bits=12,
            photometric=photometric,
            form=FORMS[index % len(FORMS)],
            patient=f"Secret-{patient}",
            study=f"1.2.{patient}",
            RescaleSlope=1,
            RescaleIntercept=INTERCEPT,
            WindowCenter=500,
            WindowWidth=100,
        )
        path = desk / "scans" / ("well", "sick")[label] / f"{index:03}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
        files.append((file, shown(stored_12_bits(image), photometric)))
    said = ("--window", "900,1700", "--resize", "32x32", "--classes", "well,sick", "--low", 0, "--high", 1)
    protect = ("protect", "net_for_images:net", "--data", "scans", "--policy", "policy.toml", "--output", "logits")
    assert run(desk, *protect, *said, "-o", "dicom") == 0
    return desk / "dicom", files


def test_dicom_from_a_folder_to_the_answer(desk, dicoms, caplog):
    bundle, files = dicoms
    spec = load_bundle(bundle).model.spec
    assert spec.shape == (1, 32, 32)
    assert spec.prepare.window == WINDOW
    with caplog.at_level(logging.DEBUG), served(desk, bundle) as client:
        for file, values in files[:20]:
            reply = client.post("/v1/predict", content=file, headers={"Content-Type": "application/dicom"})
            assert reply.status_code == 200, reply.text
            own = own_scores(desk, values[None, None])
            np.testing.assert_allclose(reply.json()["scores"], own, atol=1e-5)
        part = client.post("/v1/predict", files=[("dicom", ("x", files[0][0]))])
        np.testing.assert_allclose(part.json()["scores"], own_scores(desk, files[0][1][None, None]), atol=1e-5)
    assert "Secret" not in caplog.text
    assert "Secret" not in (desk / "state-dicom" / "audit.jsonl").read_text()


def test_a_site_is_calibrated_and_a_bundle_validated_on_such_a_folder(desk, dicoms, monkeypatch):
    assert run(desk, "calibrate", "dicom", "scans", "--site", "clinic") == 0
    seen = {}

    def validate(bundle, splits, out, **more):
        seen.update(splits)
        raise MedwardError("seen")

    monkeypatch.setattr(entry, "validate", validate)
    assert run(desk, "validate", "dicom", "--data", "scans", "-o", "report") == 3
    assert seen["data"].inputs.shape == (ROWS, 1, 32, 32)
    assert len(np.unique(seen["data"].patients)) > 50


def test_the_study_of_the_files_is_the_study_of_the_request(desk, dicoms, monkeypatch):
    bundle, files = dicoms
    asked = []
    submit_all = Guard.submit_all
    monkeypatch.setattr(
        Guard,
        "submit_all",
        lambda guard, queries: asked.extend(each.study for each in queries) or submit_all(guard, queries),
    )
    with served(desk, bundle) as client:
        one = client.post("/v1/predict", files=[("dicom", ("x", files[0][0]))] * 2)
        two = client.post("/v1/predict", files=[("dicom", ("x", file)) for file, _ in files[:2]])
        chosen = {"Medward-Study": "9.9"}
        both = client.post("/v1/predict", files=[("dicom", ("x", file)) for file, _ in files[:2]], headers=chosen)
    assert (one.status_code, two.status_code, both.status_code) == (200, 422, 200)
    assert "the files are of 2 studies" in two.json()["detail"]
    assert asked[0].startswith("1.2.")
    assert asked[1:] == ["9.9"]


def test_each_file_that_cannot_be_used_is_one_sentence(desk, dicoms, caplog):
    bundle, files = dicoms
    pixels = stored_12_bits(np.zeros((64, 64), np.uint8))
    with caplog.at_level(logging.DEBUG), served(desk, bundle) as client:
        for file, kind, status, words in [
            (files[0][0][:2000], "application/dicom", 422, "image 0: is a DICOM file whose pixels cannot be decoded"),
            (b"x", "application/dicom", 422, "image 0: is no DICOM file"),
            (dicom_file(np.stack([pixels, pixels]), frames=2, patient="Secret"), "application/dicom", 422, "2 frames"),
            (files[0][0], "image/dicom", 415, "application/dicom"),
            (files[0][0], "application/octet-stream", 415, "application/dicom"),
        ]:
            reply = client.post("/v1/predict", content=file, headers={"Content-Type": kind})
            assert reply.status_code == status, reply.text
            assert words in reply.json()["detail"]
            assert "Secret" not in reply.text
        content = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "application/x-npy", "multipart/form-data", *FILE_TYPES}
    assert "Secret" not in caplog.text


def test_what_was_not_said_of_dicom_is_asked_for(desk, dicoms, capsys):
    protect = ("protect", "net_for_images:net", "--data", "scans", "--policy", "policy.toml", "-o", "never")
    capsys.readouterr()
    for said, words in [
        ((), "say --low and --high"),
        (("--low", 0, "--high", 1), f"{ROWS} of {ROWS} files cannot be used"),
        (("--low", 0, "--high", 1, "--window", "wide"), "--window: a number is needed"),
        (("--low", 0, "--high", 1, "--window", "4"), "--window: needs 40,400"),
        (("--low", 0, "--high", 1, "--resize", "32"), "--resize: needs height x width"),
        (("--low", 0, "--high", 1, "--resample", "box"), "--resample: box is the filter of --resize"),
    ]:
        assert run(desk, *protect, *said) == 3
        error = capsys.readouterr().err
        assert words in error
        assert "Secret" not in error
        assert "Traceback" not in error


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_png_with_a_csv_and_an_upload_are_read_alike(desk, radiographs):
    images, labels, patients = radiographs
    folder = desk / "pictures"
    folder.mkdir()
    with (desk / "truth.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "who", "finding"])
        for index, (image, label, patient) in enumerate(zip(images, labels, patients, strict=True)):
            (folder / f"{index}.png").write_bytes(encoded(image))
            rows.writerow([f"{index}.png", f"p{patient}", ("well", "sick")[label]])
    protect = ("protect", "net_for_images:net", "--data", "pictures", "--policy", "policy.toml", "--output", "logits")
    said = ("--labels", "truth.csv", "--target", "finding", "--patient", "who", "--classes", "well,sick")
    size = ("--resize", "36x40", "--resample", "bicubic", "--crop", "32x32", "--low", -1, "--high", 1)
    assert run(desk, *protect, *said, *size, "-o", "png") == 0
    card = json.loads((desk / "png" / "card.json").read_text())
    assert card["spec"]["prepare"]["crop"] == [32, 32]
    with served(desk, desk / "png") as client:
        for image in images[:5]:
            fitted = Image.fromarray(image).resize((40, 36), Image.Resampling.BICUBIC).crop((4, 2, 36, 34))
            own = own_scores(desk, np.asarray(fitted)[None, None] / 255 * 2 - 1)
            raw = client.post("/v1/predict", content=encoded(image), headers={"Content-Type": "image/png"})
            part = client.post("/v1/predict", files=[("image", ("x", encoded(image)))])
            np.testing.assert_allclose(raw.json()["scores"], own, atol=1e-5)
            assert raw.json()["scores"] == part.json()["scores"]


def test_a_folder_of_classes_needs_no_columns_that_the_bundle_remembers(desk, radiographs, capsys):
    images, labels, patients = radiographs
    folder, site = desk / "named", desk / "site"
    with (desk / "named.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "who", "finding"])
        for index, (image, label, patient) in enumerate(zip(images, labels, patients, strict=True)):
            name = ("sick", "well")[label]  # as the untrained network has it
            for path in (folder / f"{index}.png", site / name / f"{index}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(image))
            rows.writerow([f"{index}.png", f"p{patient}", name])
    protect = ("protect", "net_for_images:net", "--data", "named", "--policy", "policy.toml", "--output", "logits")
    said = ("--labels", "named.csv", "--target", "finding", "--patient", "who", "--classes", "well,sick")
    assert run(desk, *protect, *said, "--resize", "32x32", "--low", -1, "--high", 1, "-o", "remembers") == 0
    assert run(desk, "calibrate", "remembers", "site", "--site", "hospital-b") == 0
    capsys.readouterr()
    assert run(desk, "calibrate", "remembers", "site", "--site", "hospital-b", "--target", "finding") == 3
    assert "say --labels too" in capsys.readouterr().err
