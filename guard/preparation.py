"""What is done to a file's pixels before a model's own first layer: part of what was validated, so part of its bundle.

The steps have one order: a DICOM file's values are windowed, pixels are scaled to the range the model takes, resized,
cropped, and normalised. Reading (`guard.intake`) ends with values in ``[low, high]``, which is what clients send as
JSON, what screens see and what attackers change; `mean` and `std` are applied inside the bundle's model, behind that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medward.guard.errors import MedwardError

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Window = tuple[float, float] | Literal["file", "pixels", "units"]
"""How a DICOM file's values become pixels: from this centre and width (after rescaling), from the window that the file
itself names, from all that its bits can hold, or not at all: the rescaled units are what the model takes."""
WINDOW_WORDS = ("file", "pixels", "units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A preparation says how a file becomes a model's input; what is None or empty is not done.

    `frame` is the one that is taken of a DICOM file of several, from 1 on. `resize` and `crop` are (height, width); a
    file of another size is resized with the filter `resample` (Pillow's, with antialiasing) and then cropped at its
    centre. ``(x - mean) / std`` is applied to each channel of values in the model's range, inside the bundle's model.
    """

    window: Window | None = None
    frame: int | None = None
    resize: tuple[int, int] | None = None
    resample: Resample = "bilinear"
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse steps that contradict themselves."""
        if isinstance(self.window, tuple) and not (len(self.window) == 2 and self.window[1] >= 1):
            raise MedwardError(f"window: needs a centre and a width of at least 1, got {self.window}")
        if self.frame is not None and self.frame < 1:
            raise MedwardError(f"frame: frames are counted from 1, got {self.frame}")
        for name in ("resize", "crop"):
            size = getattr(self, name)
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise MedwardError(f"{name}: needs a height and a width, got {size}")
        if len(self.mean) != len(self.std):
            raise MedwardError(f"mean and std: need one of each per channel, got {len(self.mean)} and {len(self.std)}")
        if not all(np.isfinite(each) for each in (*self.mean, *self.std)) or not all(each > 0 for each in self.std):
            raise MedwardError(f"mean and std: must be finite, std above 0, got {self.mean} and {self.std}")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that files leave with; None for their own."""
        return self.crop or self.resize

    @property
    def words(self) -> str:
        """What is done, in words; empty where nothing is."""
        said = []
        if isinstance(self.window, tuple):
            said.append(f"DICOM values windowed at centre {self.window[0]:g}, width {self.window[1]:g}")
        elif self.window is not None:
            said.append(
                {
                    "file": "DICOM windowed as the file says",
                    "pixels": "DICOM values scaled by their bits",
                    "units": "DICOM values in their own units",
                }[self.window]
            )
        if self.frame is not None:
            said.append(f"frame {self.frame}")
        if self.resize is not None:
            said.append(f"resized to {self.resize[0]} x {self.resize[1]} ({self.resample})")
        if self.crop is not None:
            said.append(f"cropped to {self.crop[0]} x {self.crop[1]}")
        if self.mean:
            said.append("normalised inside the model")
        return ", ".join(said)


AS_IT_IS = Preparation()
"""Nothing is done to a file but to scale its pixels."""
