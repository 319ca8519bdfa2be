"""A clinician-side client in ten lines: a DICOM file goes in, FHIR comes out; around it, a guarded model to ask.

`ask_for_report` is all that a client needs; the rest trains a small model and serves it on this machine.
"""

import io
import logging
import tempfile
from pathlib import Path

import httpx
import numpy as np
import pydicom
import torch
from fastapi.testclient import TestClient
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from torch import nn

import medward
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.integrations.serving import load_app


def ask_for_report(client: httpx.Client, dicom: bytes) -> dict:
    """Send a DICOM file, get a FHIR DiagnosticReport with its Observations."""
    headers = {"Content-Type": "application/dicom", "Accept": "application/fhir+json"}
    response = client.post("/v1/predict", content=dicom, headers=headers)
    response.raise_for_status()
    return response.json()


def observation_words(bundle: dict) -> list[str]:
    """What a clinician reads: each observation's value, or that it was withheld."""
    said = [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "Observation"]
    return [each.get("valueCodeableConcept", {"text": "withheld"})["text"] for each in said]


def dicom_of(image: np.ndarray) -> bytes:
    """A radiograph of 8 bits as a modality sends it."""
    file = pydicom.Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), generate_uid()
    file.PatientID, file.Modality = "patient-0", "DX"
    file.Rows, file.Columns = image.shape
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = image.tobytes()
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def train(images: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Your model: any module from images to logits."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)
    images, labels = draw_phantoms(900, size=32)
    pixels = np.round(images * 255).astype(np.uint8)
    net = train(images[:400], labels[:400])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        medward.protect(
            net,
            medward.Split(pixels[400:800].astype(np.float32) / 255, labels[400:800]),
            medward.Policy(on_error="withhold"),
            work / "bundle",
            classes=("clear", "opacity"),
            output="logits",
            low=0.0,
            high=1.0,
        )
        app = load_app(work / "bundle", state=work / "state", anonymous=True)
        with TestClient(app) as client:  # elsewhere: httpx.Client(base_url=..., headers={"X-API-Key": ...})
            bundle = ask_for_report(client, dicom_of(pixels[850, 0]))
            strange = ask_for_report(client, dicom_of(np.tile(np.uint8([[0, 255], [255, 0]]), (16, 16))))
    report = bundle["entry"][1]["resource"]
    print(f"{report['resourceType']}, {report['status']}, of {len(report['imagingStudy'])} study")
    print(f"a radiograph: {', '.join(observation_words(bundle))}")
    print(f"a chessboard: {', '.join(observation_words(strange))}")


if __name__ == "__main__":
    main()
