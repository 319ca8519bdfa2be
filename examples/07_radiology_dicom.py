"""A folder of DICOM files, as a scanner writes them, to a guarded endpoint that takes such a file as it is."""

import logging
import tempfile
from pathlib import Path

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

TWELVE_BITS = 4095
CLASSES = ("clear", "opacity")


def write_dicom(path: Path, image: np.ndarray, patient: str, *, inverted: bool) -> None:
    """What a modality sends: 12 bits in 16, sometimes with black for white."""
    file = pydicom.Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.StudyInstanceUID = generate_uid()
    file.PatientID, file.Modality = patient, "DX"
    file.Rows, file.Columns = image.shape
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    pixels = np.round((1 - image if inverted else image) * TWELVE_BITS).astype(np.uint16)
    file.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def train(images: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Your model: any module from images to logits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 2)),
    )
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net.eval()


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)
    images, labels = draw_phantoms(900, size=32)
    net = train(images[:600], labels[:600])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for i in range(600, 900):  # benign/clear/*.dcm and benign/opacity/*.dcm: the folder's name is the label
            where = work / "benign" / CLASSES[labels[i]] / f"{i}.dcm"
            write_dicom(where, images[i, 0], f"patient-{i}", inverted=i % 3 == 0)

        # As `medward protect mine:net --data benign/ --window pixels --low 0 --high 1 --classes clear,opacity ...`:
        medward.protect(
            net,
            work / "benign",
            medward.Policy(on_error="withhold", release={"level": "full"}),
            work / "bundle",
            classes=CLASSES,
            output="logits",
            low=0.0,
            high=1.0,
            prepare=medward.Preparation(window="pixels"),
        )
        new = work / "new.dcm"
        write_dicom(new, images[0, 0], "patient-0", inverted=True)
        with TestClient(load_app(work / "bundle", state=work / "state", anonymous=True)) as client:
            answer = client.post(
                "/v1/predict", content=new.read_bytes(), headers={"Content-Type": "application/dicom"}
            ).json()
        with torch.no_grad():
            pixels = np.round(images[:1] * TWELVE_BITS) / TWELVE_BITS
            own = net(torch.from_numpy(pixels.astype(np.float32)))[0].tolist()
        print(f"answer: {answer['labels'][0]}, logits {np.round(answer['scores'][0], 4).tolist()}")
        print(f"the model's own on the decoded pixels: {np.round(own, 4).tolist()}")
        print(f"largest difference: {np.abs(np.subtract(answer['scores'][0], own)).max():.1e}")


if __name__ == "__main__":
    main()
