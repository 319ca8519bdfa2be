"""Data in another form is named by its kind, with the lines that make an npz or a split of it."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from medward.guard.data.split import Split, check_split, load_npz
from medward.guard.errors import MedwardError

DICOM = b"\0" * 128 + b"DICM"


def zipped(**files):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)

    return write


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "kind", "remedy"),
    [
        ("a.csv", b"age,sex\n4,f\n", "a CSV table", "pandas.read_csv(path)"),
        ("a.TSV", b"age\tsex\n", "a TSV table", r"sep='\t'"),
        ("a.parquet", b"PAR1", "a Parquet table", "pandas.read_parquet"),
        ("without_an_end", b"PAR1", "a Parquet table", "pandas.read_parquet"),
        ("a.xlsx", zipped(**{"xl/workbook.xml": ""}), "an Excel table", "pandas.read_excel"),
        (
            "a.npy",
            saved(np.zeros(3)),
            "a single array",
            "np.savez('data.npz', inputs=np.load(path)",
        ),
        ("really.npz", saved(np.zeros(3)), "a single array", "np.load(path)"),
        ("a.dcm", DICOM, "a DICOM file", "read_data(folder, Reading("),
        ("IM0001", DICOM, "a DICOM file", "read_data(folder, Reading("),
        ("a.png", b"\x89PNG\r\n", "one image file", "read_data(folder, Reading("),
        ("a.jpeg", b"\xff\xd8\xff", "one image file", "read_data"),
        ("a.h5", b"\x89HDF", "an HDF5 file", "h5py.File"),
        ("a.nii.gz", gzip.compress(b""), "a NIfTI volume", "slices (n, 1, H, W)"),
        ("a.gz", gzip.compress(b""), "a compressed file", "unpack it"),
        ("a.pkl", pickle.dumps(1), "a pickle", "np.savez"),
        ("a.pt", lambda path: torch.save({}, path), "a torch file", "torch.load(path)[name].numpy()"),
        ("a.zip", zipped(notes=""), "a zip that holds no arrays", "unpack it"),
        ("folder", {"sick/1.png": b"", "well/1.jpg": b"", "readme.txt": b""}, "a folder of png files", "read_data("),
        ("folder", {"a/1.dcm": b"", "a/2.dcm": b"", "b.csv": b""}, "a folder of dcm files", "read_data(folder"),
        (
            "folder",
            {"d/data-0.arrow": b"", "d/state.json": b"", "e/data.arrow": b""},
            "a folder of arrow",
            "load_from_disk",
        ),
        ("folder", {}, "a folder without PNG, JPEG, TIFF or DICOM files", "give the folder that holds them"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_kind_is_named(tmp_path, name, content, kind, remedy):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        path.mkdir()
        for inside, data in content.items():
            (path / inside).parent.mkdir(exist_ok=True)
            (path / inside).write_bytes(data)
    else:
        content(path)
    with pytest.raises(MedwardError) as refused:
        load_npz(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: is {kind}")
    assert remedy in said
    assert "not a readable npz" in said
    assert "\n" not in said


def test_an_npz_is_read_whatever_it_is_called(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((3, 2)))
    for name in ("a.pt", "a.csv", "a"):
        path = (tmp_path / "a.npz").rename(tmp_path / name)
        assert len(load_npz(path)["data"]) == 3
        path.rename(tmp_path / "a.npz")


def of(module, kind):
    """An object whose class is called `kind` in a library called `module`."""
    return type(kind, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("found", "kind", "remedy"),
    [
        (of("pandas.core.frame", "DataFrame"), "a pandas DataFrame", "frame[columns].to_numpy('float32')"),
        (of("polars.dataframe.frame", "DataFrame"), "a polars DataFrame", "frame.select(columns)"),
        (of("datasets.arrow_dataset", "Dataset"), "a Hugging Face Dataset", "np.asarray(row['image'])"),
        (torch.zeros(3), "a torch Tensor", "tensor.numpy()"),
        (
            torch.utils.data.TensorDataset(torch.zeros(3)),
            "a torch TensorDataset",
            "torch.stack([x for x, _ in dataset])",
        ),
        (torch.utils.data.DataLoader([1]), "a torch DataLoader", "torch.cat([x for x, _ in loader])"),
        (type("Mine", (torch.utils.data.Dataset,), {})(), "a torch Mine", "torch.stack"),
        ([np.zeros(3)], "a list of Python objects", "np.stack(rows)"),
        ({"train": Split(np.zeros((3, 2)))}, "a dict", "splits['calibration']"),
        ("benign.npz", "a str", "load_npz(Path(path))['calibration']"),
        (Path("benign.npz"), "a path", "load_npz(path)['calibration']"),
        (None, "NoneType", ""),
        (iter([]), "list_iterator", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_of_another_kind_is_named(found, kind, remedy):
    for given, what in ((found, "data"), (Split(found), "inputs")):
        with pytest.raises(MedwardError) as refused:
            check_split(given)
        assert str(refused.value).startswith(f"{what}: got {kind}")
        assert remedy in str(refused.value)


def test_a_bare_array_is_told_how_to_become_a_split():
    with pytest.raises(MedwardError, match=r"got a NumPy ndarray, a medward.Split is needed: Split\(array, labels\)"):
        check_split(np.zeros((3, 2)))
    assert len(check_split(Split(np.zeros((3, 2))))) == 3


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.array([["a", "b"]]), "expected numbers, got dtype <U1; encode texts"),
        (np.array([[1, "f"]], object), "expected numbers, got dtype object"),
        (np.array([[1.0, np.nan], [1, 2]]), "NaN or infinity in 1 of 2 rows; fill missing values"),
        (np.zeros((0, 4)), "no rows"),
        (np.zeros(4), "at least two axes"),
    ],
)
def test_inputs_that_are_no_finite_numbers_are_refused(inputs, says):
    with pytest.raises(MedwardError, match=says):
        check_split(Split(inputs))


def with_version(data, version):
    """A zip whose directory asks for this format version of whoever reads it."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 6] + bytes([version]) + data[at + 7 :]


def with_flag(data, flag):
    """A zip whose entries carry this general purpose bit: 1 is encryption."""
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(sign) + offset
        data = data[:at] + bytes([data[at] | flag]) + data[at + 1 :]
    return data


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: with_version(data, 99),
        lambda data: with_flag(data, 1),
        lambda data: data[: len(data) // 2],
        lambda data: data[:90] + b"\xff" * 60 + data[150:],
    ],
    ids=["a later version", "encrypted", "cut", "damaged"],
)
@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_a_damaged_or_odd_zip_is_refused_in_one_sentence(tmp_path, pack, spoil):
    path = tmp_path / "a.npz"
    pack(path, inputs=np.arange(600.0).reshape(200, 3))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(MedwardError, match="not a readable npz") as refused:
        load_npz(path)
    assert "\n" not in str(refused.value)
