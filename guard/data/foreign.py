"""What to say to data that is no npz and no `Split`: its kind, and the lines that make one of it.

A file is known by its first bytes or else by its name, an object by the library of its class.
"""

from __future__ import annotations

import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import NoReturn

from medward.guard.errors import MedwardError

SAVE = "np.savez('data.npz', inputs={}, labels=labels)"
TABLE = "np.savez('data.npz', inputs=frame[columns].to_numpy('float32'), labels=frame['label'].to_numpy(str))"
IMAGES = "the commands, and read_data(folder, Reading(low=0, high=1)), read the folder that such files are in"
HUGGING_FACE = (
    "rows = datasets.load_from_disk(folder); np.savez('data.npz', images=np.stack([np.asarray(row['image']) for row in "
    "rows]), labels=np.array(rows['label']))"
)
EXPORTED = "read it in Python and save arrays: np.savez('data.npz', inputs=x, labels=y)"

KINDS: dict[str, tuple[str, str]] = {
    "csv": ("a CSV table", f"frame = pandas.read_csv(path); {TABLE}"),
    "tsv": ("a TSV table", f"frame = pandas.read_csv(path, sep='\\t'); {TABLE}"),
    "parquet": ("a Parquet table", f"frame = pandas.read_parquet(path); {TABLE}"),
    "xlsx": ("an Excel table", f"frame = pandas.read_excel(path); {TABLE}"),
    "npy": ("a single array (.npy)", SAVE.format("np.load(path)")),
    "dcm": ("a DICOM file", IMAGES),
    "png": ("one image file", IMAGES),
    "h5": ("an HDF5 file", SAVE.format("h5py.File(path)[name][:]")),
    "nii": ("a NIfTI volume", "save slices (n, 1, H, W): np.savez('data.npz', images=slices, labels=labels)"),
    "pt": ("a torch file", SAVE.format("torch.load(path)[name].numpy()")),
    "pkl": ("a pickle (it could run code)", EXPORTED),
    "json": ("a JSON file", EXPORTED),
    "arrow": ("an Arrow file, as saved Hugging Face datasets are made of", HUGGING_FACE),
    "zip": ("a zip that holds no arrays", f"unpack it, then {EXPORTED}"),
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
    ("pandas.", "a pandas {}", "frame[columns].to_numpy('float32')"),
    ("polars.", "a polars {}", "frame.select(columns).to_numpy().astype('float32')"),
    ("torch.utils.data.dataloader.", "a torch {}", "torch.cat([x for x, _ in loader]).numpy()"),
    ("torch.utils.data.", "a torch {}", "torch.stack([x for x, _ in dataset]).numpy()"),
    ("torch.", "a torch {}", "tensor.numpy()"),
    ("datasets.", "a Hugging Face {}", "np.stack([np.asarray(row['image']) for row in dataset])"),
    ("tensorflow.", "a TensorFlow {}", "np.stack([x.numpy() for x, _ in dataset])"),
    ("numpy.", "a NumPy {}", "array"),
    ("builtins.list", "a {} of Python objects", "np.stack(rows)"),
    ("builtins.tuple", "a {}", "np.stack(rows)"),
    ("builtins.dict", "a {}", "splits['calibration'].inputs"),
    ("builtins.str", "a {} (a path?)", "load_npz(Path(path))['calibration'].inputs"),
    ("pathlib.", "a path ({})", "load_npz(path)['calibration'].inputs"),
)
"""By a class's full name, or the library it is in: what the object is, and the array of inputs that it holds."""


def check_npz(path: Path) -> None:
    """Refuse a `path` that is no zip of arrays: say what it is instead and how to make an npz of it."""
    if not path.exists():
        raise MedwardError(f"{path}: there is no such file")
    kind = folder_kind(path) if path.is_dir() else file_kind(path)
    if path.is_dir():
        if kind not in KINDS:
            raise MedwardError(
                f"{path}: is a folder without PNG, JPEG, TIFF or DICOM files, not a readable npz; give the folder that "
                "holds them, a table or an npz"
            )
        raise MedwardError(f"{path}: is a folder of {kind} files, not a readable npz; {KINDS[kind][1]}")
    if kind in KINDS:
        found, remedy = KINDS[kind]
        raise MedwardError(f"{path}: is {found}, not a readable npz; {remedy}")


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
        return "" if _holds_arrays(path) else named or "zip"
    known = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
    if known == "gz" and named == "nii":
        return named
    return known or named


def folder_kind(folder: Path) -> str:
    """A key of `KINDS` for what most files in `folder` are, or ""."""
    files = islice((each for each in folder.rglob("*") if each.is_file()), FILES_LOOKED_AT)
    kinds = [kind for each in files if (kind := _by_name(each))]
    return max(sorted(set(kinds)), key=kinds.count, default="")


def refuse_object(found: object, *, inputs: bool = False) -> NoReturn:
    """Refuse an object that is no `Split`, or as `inputs` of one no array, by its kind."""
    name, array = type(found).__name__, "inputs"
    for base in type(found).__mro__:
        full = f"{base.__module__}.{base.__qualname__}"
        known = next(((kind, how) for start, kind, how in OBJECTS if full == start or _within(full, start)), None)
        if known is not None:
            name, array = known[0].format(name), known[1]
            break
    if inputs:
        raise MedwardError(f"inputs: got {name}, a NumPy array is needed: {array}")
    made = array.removesuffix(".inputs") if array.endswith(".inputs") else f"Split({array}, labels)"
    raise MedwardError(f"data: got {name}, a medward.Split is needed: {made}")


def _within(full: str, library: str) -> bool:
    return library.endswith(".") and full.startswith(library)


def _by_name(path: Path) -> str:
    end = path.name.lower().removesuffix(".gz").rpartition(".")[2] if "." in path.name else ""
    end = ALIASES.get(end, end)
    return end if end in KINDS else ""


def _holds_arrays(path: Path) -> bool:
    """Whether a file that begins as a zip does holds arrays; a damaged or odd one is left to `load_npz` to refuse."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, RuntimeError, zlib.error):
        return True
