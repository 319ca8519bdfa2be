"""What the place of an image file in a folder says: its split and its class.

Folders at the top that are called as splits are splits, and there all are. Files that all lie in folders one below have
that folder's name as their class; in a flat folder and in a deeper tree, as exported from an archive, none has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from medward.guard.data.foreign import FILES_LOOKED_AT
from medward.guard.data.split import log
from medward.guard.errors import MedwardError
from medward.guard.intake.decode import is_dicom

SPLIT_FOLDERS = ("train", "selection", "val", "calibration", "test", "holdout")
RASTER_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")


def image_files(folder: Path, labels: Path | None) -> list[Path]:
    """The image files in `folder`, sorted by path; other files are named, hidden ones passed over."""
    files: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or (labels is not None and path.samefile(labels)):
            continue
        (files if is_image(path) else others).append(path)
    if not files:
        held = f"only other files, as {others[0].name}" if others else "no files"
        raise MedwardError(f"{folder}: holds no PNG, JPEG, TIFF or DICOM files, {held}")
    if others:
        log.warning("%s: not read, no PNG, JPEG, TIFF or DICOM: %d files, as %s", folder, len(others), others[0].name)
    return files


def is_image(path: Path) -> bool:
    """Whether `path` begins as an image file or is called one; a DICOMDIR only lists others."""
    if path.name.upper() == "DICOMDIR":
        return False
    start = first_bytes(path)
    return is_dicom(start) or start.startswith(RASTER_STARTS) or path.suffix.lower() in IMAGE_ENDS


def first_bytes(path: Path) -> bytes:
    """What `path` begins with: as much as shows which kind of file it is."""
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError as error:
        raise MedwardError(f"{path}: cannot be read: {error.strerror}") from None


def holds_images(folder: Path) -> bool:
    """Whether any of the first files in `folder` is an image file."""
    return any(
        is_image(path) for path in islice((each for each in folder.rglob("*") if each.is_file()), FILES_LOOKED_AT)
    )


def split_folders(folder: Path, names: Sequence[str]) -> list[str]:
    """The split that each file is of: its top folder where that is called as one, else "data" for all."""
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    if not set(tops) & set(SPLIT_FOLDERS):
        return ["data"] * len(names)
    if odd := [name for name, top in zip(names, tops, strict=True) if top not in SPLIT_FOLDERS]:
        raise MedwardError(
            f"{folder}: has folders that are splits and {len(odd)} files outside of them, as {odd[0]!r}; the splits "
            f"are called {', '.join(SPLIT_FOLDERS)}"
        )
    return tops


def folder_classes(folder: Path, names: Sequence[str]) -> list[str] | None:
    """The class of each file, from the folder it lies in; None for a flat folder and a deeper tree."""
    depths = {name.count("/") for name in names}
    if depths == {0, 1}:
        loose = [name for name in names if "/" not in name]
        raise MedwardError(
            f"{folder}: {len(loose)} files lie beside the folders of classes, as {loose[0]!r}; move them into one, or "
            "say --labels"
        )
    return [name.partition("/")[0] for name in names] if depths == {1} else None
