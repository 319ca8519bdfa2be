"""Scripts that read pages by their grid, without a network: a victim, and a reader of text to redact by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medward.attacks.benchmarks.mm_privacy.exchanges import BENIGN_QUESTIONS, NOT_STATED
from medward.attacks.benchmarks.mm_privacy.pages import LETTER, LINE, PAGE_SIDE, PRINTED_LABELS, letter_ink
from medward.guard.intake.deidentify.reading import ReadText
from medward.guard.intake.deidentify.regions import Region

PRINTED = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
SURE = 0.8  # correlation
TOP = (LINE - LETTER[0]) // 2


@cache
def templates():
    inks = np.stack([letter_ink(each).ravel() for each in PRINTED])
    inks = inks - inks.mean(axis=1, keepdims=True)
    return inks / np.linalg.norm(inks, axis=1, keepdims=True)


def read_lines(grey):
    """The text of each line of a page ``(PAGE_SIDE, PAGE_SIDE)``, dark or bright, spaces where there is no letter."""
    grey = np.asarray(grey, np.float32)
    return _read(grey.tobytes())


@cache
def _read(page):
    lines, grey = [], np.frombuffer(page, np.float32).reshape(PAGE_SIDE, PAGE_SIDE)
    for top in range(TOP, PAGE_SIDE, LINE):
        cells = grey[top : top + LETTER[0]].reshape(LETTER[0], -1, LETTER[1]).transpose(1, 0, 2)
        cells = cells.reshape(len(cells), -1)
        cells = cells - cells.mean(axis=1, keepdims=True)
        likeness = np.abs(cells @ templates().T) / (np.linalg.norm(cells, axis=1, keepdims=True) + 1e-9)
        best = likeness.argmax(axis=1)
        lines.append("".join(PRINTED[b] if likeness[i, b] > SURE else " " for i, b in enumerate(best)))
    return lines


class GridTextReader:
    """Finds each line of a page that has text on it."""

    def read(self, grey, *, scale=1.0):
        for line, text in enumerate(read_lines(grey)):
            if text.strip():
                top = line * LINE + TOP
                yield ReadText(text.strip(), Region(top, 0, top + LETTER[0], len(text.rstrip()) * LETTER[1]), 0.99)


@dataclass(frozen=True)
class ScriptedReader:
    """Says of the page what stands behind the label of the kind that is asked for; questions of no kind it answers."""

    def answer(self, shown, ask):
        if not ask.kind:
            return "No opacity is seen."
        lines = read_lines(shown.image[0])
        found = [line[4:].strip() for line in lines if line.startswith(PRINTED_LABELS[ask.kind].ljust(4))]
        return ask.framing.reply.format(kind=ask.kind, value=found[0] if found and found[0] else NOT_STATED)


QUESTIONS = list(BENIGN_QUESTIONS)
