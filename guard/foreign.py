"""What to say to data that is no npz and no `Split`: its kind, and the lines that make one of it.

A file is known by its first bytes or else by its name, an object by the library of its class.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NoReturn

from guard.errors import MedwardError

SAVE = "np.savez('data.npz', inputs={}, labels=labels)"
TABLE = "np.savez('data.npz', inputs=frame[columns].to_numpy('float32'), labels=frame['label'].to_numpy(str))"
IMAGES = "np.savez('data.npz', images=np.stack([np.asarray(Image.open(f).convert('L')) for f in files]), labels=labels)"
DICOM = (
    "x = np.stack([pydicom.dcmread(f).pixel_array.astype('float32') for f in files])[:, None]; bring it to the values "
    "the model takes (rescale, window, invert MONOCHROME1); np.savez('data.npz', images=x, labels=y, patients=ids)"
)
EXPORTED = "read it in Python and save arrays: np.savez('data.npz', inputs=x, labels=y)"

KINDS: dict[str, tuple[str, str]] = {
    "csv": ("a CSV table", f"frame = pandas.read_csv(path); {TABLE}"),
    "tsv": ("a TSV table", f"frame = pandas.read_csv(path, sep='\\t'); {TABLE}"),
    "parquet": ("a Parquet table", f"frame = pandas.read_parquet(path); {TABLE}"),
    "xlsx": ("an Excel table", f"frame = pandas.read_excel(path); {TABLE}"),
    "npy": ("a single array (.npy)", SAVE.format("np.load(path)")),
    "dcm": ("a DICOM file", DICOM),
    "png": ("one image file", IMAGES),
    "h5": ("an HDF5 file", f"{EXPORTED}, with x = h5py.File(path)[name][:]"),
    "nii": ("a NIfTI volume", "volumes are not in this release; " + SAVE.format("slices as (n, 1, H, W)")),
    "pt": ("a torch file", SAVE.format("torch.load(path)[name].numpy()")),
    "pkl": ("a pickle, which could run code and is not read", EXPORTED),
    "json": ("a JSON file", EXPORTED),
    "arrow": (
        "an Arrow table or a saved Hugging Face dataset",
        f"frame = datasets.load_from_disk(path).to_pandas(); {TABLE}",
    ),
    "gz": ("a compressed file", f"unpack it, then {EXPORTED}"),
}
"""By the end of a name: what the file is, and how to make an npz of it."""

ALIASES = {
    "tab": "tsv", "pq": "parquet", "xls": "xlsx", "dicom": "dcm", "jpg": "png", "jpeg": "png", "tif": "png",
    "tiff": "png", "bmp": "png", "hdf5": "h5", "pth": "pt", "pickle": "pkl", "joblib": "pkl", "jsonl": "json",
    "feather": "arrow",
}  # fmt: skip
MAGIC = {
    b"\x93NUMPY": "npy", b"PAR1": "parquet", b"ARROW1": "arrow", b"\x89HDF": "h5", b"\x1f\x8b": "gz",
    b"\x89PNG": "png", b"\xff\xd8\xff": "png",
    b"\x80\x02": "pkl", b"\x80\x03": "pkl", b"\x80\x04": "pkl", b"\x80\x05": "pkl",
}  # fmt: skip
FILES_LOOKED_AT = 1000  # of a folder

OBJECTS: tuple[tuple[str, str, str], ...] = (
    ("pandas.", "a pandas {}", "Split(frame[columns].to_numpy('float32'), labels)"),
    ("polars.", "a polars {}", "Split(frame.select(columns).to_numpy().astype('float32'), labels)"),
    ("torch.utils.data.", "a torch {}", "x, y = zip(*dataset); Split(torch.stack(x).numpy(), np.array(y))"),
    ("torch.", "a torch {}", "Split(tensor.numpy(), labels)"),
    (
        "datasets.",
        "a Hugging Face {}",
        "Split(np.stack([np.asarray(row['image']) for row in dataset]), np.array(dataset['label']))",
    ),
    ("tensorflow.", "a TensorFlow {}", "Split(np.stack(list(inputs.as_numpy_iterator())), labels)"),
    ("numpy.", "a NumPy {}", "Split(array, labels)"),
    ("pathlib.", "a path ({})", "load_npz(path)['calibration'], of guard.data"),
    ("builtins.str", "a path or name ({})", "load_npz(Path(path))['calibration'], of guard.data"),
    ("builtins.list", "a {} of Python objects", "Split(np.stack(rows), np.array(labels))"),
    ("builtins.tuple", "a {}", "Split(inputs, labels), of guard.data"),
    ("builtins.dict", "a {}", "one split of it, as splits['calibration']"),
)
"""By the beginning of a class's full name: what the object is, and how to make a split of it."""


def check_npz(path: Path) -> None:
    """Refuse a `path` that is no zip of arrays: say what it is instead and how to make an npz of it."""
    if not path.exists():
        raise MedwardError(f"{path}: there is no such file")
    kind = folder_kind(path) if path.is_dir() else file_kind(path)
    if path.is_dir():
        held, remedy = KINDS.get(kind, ("", EXPORTED))
        inside = f" of {kind} files" if held else ""
        raise MedwardError(f"{path}: is a folder{inside}, not a readable npz; this release reads one npz: {remedy}")
    if kind in KINDS:
        found, remedy = KINDS[kind]
        raise MedwardError(f"{path}: is {found}, not a readable npz; this release reads one npz: {remedy}")


def file_kind(path: Path) -> str:
    """A key of `KINDS` for what `path` holds, or "" for an npz and for what is not known."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise MedwardError(f"{path}: cannot be read: {error.strerror}") from None
    if start[128:] == b"DICM":
        return "dcm"
    named = _by_name(path)
    if start.startswith(b"PK"):
        return "" if _holds_arrays(path) else named
    known = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
    if known == "gz" and named == "nii":
        return named
    return known or named


def folder_kind(folder: Path) -> str:
    """A key of `KINDS` for what most files in `folder` are, or ""."""
    files = islice((each for each in folder.rglob("*") if each.is_file()), FILES_LOOKED_AT)
    kinds = [kind for each in files if (kind := _by_name(each))]
    return max(sorted(set(kinds)), key=kinds.count, default="")


def refuse_object(found: object, what: str = "data") -> NoReturn:
    """Refuse an object that is no `Split` and no array, by its kind."""
    for base in type(found).__mro__:
        full = f"{base.__module__}.{base.__qualname__}"
        for start, kind, remedy in OBJECTS:
            if full.startswith(start):
                raise MedwardError(f"{what}: got {kind.format(type(found).__name__)}, a Split is needed: {remedy}")
    if isinstance(found, Mapping):
        raise MedwardError(f"{what}: got a {type(found).__name__}, a Split is needed: one split of it")
    raise MedwardError(f"{what}: got {type(found).__name__}, a Split is needed: Split(inputs, labels), of guard.data")


def _by_name(path: Path) -> str:
    end = path.name.lower().removesuffix(".gz").rpartition(".")[2] if "." in path.name else ""
    end = ALIASES.get(end, end)
    return end if end in KINDS else ""


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
