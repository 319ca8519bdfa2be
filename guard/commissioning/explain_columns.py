"""Explains a batch of strange table rows: the columns whose mistake, undone, makes them ordinary, or what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from medward.guard.columns import encoded_names
from medward.guard.commissioning.column_mistakes import GAPS, MOST_CODES, scaled_columns, shifted_codes
from medward.guard.commissioning.exceedance import exceedance_p_value, shared_value_p_value
from medward.guard.commissioning.mistake import SendingMistake
from medward.guard.commissioning.notes import (
    FEWEST_COMPARED,
    PAIRED,
    STRANGE_BATCH,
    BatchTests,
    CommissioningNote,
    StrangenessOf,
    both_sides,
)
from medward.guard.commissioning.ordinary import OrdinaryColumns
from medward.guard.data.quality import sign_test
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

STRANGE_ROWS = "strange"
FITTING = 0.005
"""At what level a column may still lie apart once a mistake is undone that is said of it."""
EQUAL_WITHIN = 0.1
"""Deviations by which an undone standardisation may miss a calibration value, for it to be that one."""
COMMON = 0.05
"""Of calibration rows, beyond which a value that they hold is not taken for a missing one."""
ALTERNATIVES = 2
"""How many further units are named at most that explain a column nearly as well."""
LIKELIEST, EXCHANGED = 8, 40
"""How many columns are looked at where none lies apart: for units, and in pairs for exchanges."""
_TAIL = 0.05  # of calibration rows, beyond which a value or a row is counted as apart
_COLUMN_TESTS = ("above", "below", "shared")
_FEWEST_SHARED = 3  # rows that share a value, for it to stand for what is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnExplainer:
    """Explains rows: `ordinary` columns are known by their summary, None in profiles of older releases.

    ``reference (n,)`` is the ascending strangeness of benign rows, `strangeness_of` that of any.
    """

    spec: ModelSpec
    ordinary: OrdinaryColumns | None
    reference: Array
    strangeness_of: StrangenessOf

    def explain(self, rows: Array) -> tuple[CommissioningNote, ...]:
        """Notes on a batch; none where nothing is strange."""
        if len(rows) < FEWEST_COMPARED:
            return ()
        tests = self._tests(rows)
        if not tests.strange:
            return ()
        ordinary = self.ordinary
        if ordinary is None:
            return (self._strange(rows),)
        standardised = self._standardised(rows, ordinary)
        if standardised:
            return (standardised,)
        undone, notes = self._recoded(rows.copy(), tests)
        for _ in range(rows.shape[1]):
            apart = self._apart(undone, STRANGE_BATCH)
            found = next(filter(None, (self._undone(undone, each) or self._gap(undone, each) for each in apart)), None)
            if found is None:
                break
            undone, note = found
            notes.append(note)
        if not notes and not self._apart(rows, STRANGE_BATCH) and (joint := self._joint(rows)):
            return (joint,)
        return (*notes, *self._differs(undone, explained=bool(notes)))

    def _tests(self, rows: Array) -> BatchTests:
        p_values = {STRANGE_ROWS: exceedance_p_value(self.strangeness_of(rows), self.reference)}
        if self.ordinary is not None:
            for column, benign in enumerate(self.ordinary.values):
                p_values |= both_sides(f"{column}", rows[:, column], benign)
                p_values[f"{column} shared"] = self._shared(rows, column)[1]
        return BatchTests(p_values=p_values)

    def _apart(self, rows: Array, level: float) -> list[int]:
        """The columns that lie apart at `level`, all tests of the batch together, the clearest first."""
        count = len(rows[0])
        p_values = [min(self._column_p(rows, each), self._shared(rows, each)[1]) for each in range(count)]
        order = sorted(range(count), key=lambda column: p_values[column])
        return [column for column in order if p_values[column] * (3 * count + 1) <= level]

    def _column_p(self, rows: Array, column: int) -> float:
        assert self.ordinary is not None
        return min(both_sides("", rows[:, column], self.ordinary.values[column]).values())

    def _fits(self, rows: Array, *columns: int) -> bool:
        """Whether columns lie where calibration's do, are as wide, and share no value that is new."""
        assert self.ordinary is not None
        for column in columns:
            benign = self.ordinary.values[column]
            middle = np.median(benign)
            narrow = exceedance_p_value(-np.abs(rows[:, column] - middle), np.sort(-np.abs(benign - middle)))
            if min(narrow, self._column_p(rows, column), self._shared(rows, column)[1]) <= FITTING:
                return False
        return True

    def _shared(self, rows: Array, column: int) -> tuple[float, float]:
        """The value that more rows share than in calibration, and how likely that is."""
        assert self.ordinary is not None
        best = (np.nan, 1.0)
        values, counts = np.unique(rows[:, column], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if count >= _FEWEST_SHARED:
                known = self.ordinary.known(column, value)
                p = shared_value_p_value(count, len(rows), known, self.ordinary.rows)
                best = min(best, (value, p), key=lambda each: each[1])
        return best

    def _recoded(self, rows: Array, tests: BatchTests) -> tuple[Array, list[CommissioningNote]]:
        """The rows with codes put right that begin one too high or too low, and notes of that."""
        assert self.ordinary is not None
        notes = []
        for column in range(rows.shape[1]):
            if not self._has_codes(column) or not {f"{column} {each}" for each in _COLUMN_TESTS} & {*tests.found}:
                continue
            for mistake in shifted_codes():
                tried = rows.copy()
                tried[:, column] = mistake.undo(rows[:, column])
                known = all(self.ordinary.known(column, value) > 1 for value in tried[:, column].tolist())
                if known and self._shared(tried, column)[1] > FITTING and self._fits(tried, column):
                    rows = tried
                    words = f"to have {self._name(column)} {mistake.words}"
                    notes.append(self._note(mistake.name, words, len(rows), len(rows)))
                    break
        return rows, notes

    def _has_codes(self, column: int) -> bool:
        assert self.ordinary is not None
        return bool(self.ordinary.whole[column]) and len(np.unique(self.ordinary.values[column])) <= MOST_CODES

    def _gap(self, rows: Array, column: int) -> tuple[Array, CommissioningNote] | None:
        """The rows with ordinary values for the one that stands for what is missing in a column, and the note of it.

        None unless many share it, other rows are not apart, and hardly any calibration row holds it: where these do,
        more of them may be another population.
        """
        assert self.ordinary is not None
        value, p = self._shared(rows, column)
        if p > FITTING or self.ordinary.known(column, value) > COMMON * self.ordinary.rows:
            return None
        held = np.isclose(rows[:, column], value)
        if value not in GAPS and self._column_p(rows[~held], column) <= FITTING:
            return None
        undone, name, count = rows.copy(), self._name(column), int(held.sum())
        benign = self.ordinary.values[column]
        undone[held, column] = benign[np.linspace(0, len(benign) - 1, count).astype(int)]
        word, words = f"missing as {value:g}", f"to have {value:g} for a missing {name}"
        if value not in GAPS:
            word, words = "missing as one value", f"to have one value, {value:.4g}, for a missing {name}"
        return undone, self._note(word, words, count, len(rows))

    def _standardised(self, rows: Array, ordinary: OrdinaryColumns) -> CommissioningNote | None:
        """Whether rows are ordinary once their columns get the calibration's means and deviations.

        But for values that many share: the sender's means and deviations are not quite those.
        """
        undone = rows * ordinary.deviations + ordinary.means
        undone = np.where(ordinary.whole, np.round(undone), undone).astype(rows.dtype)
        for column, benign in enumerate(ordinary.values):  # whose shared values it misses by a little
            near = benign[np.abs(undone[:, column, None] - benign).argmin(axis=1)]
            close = np.abs(near - undone[:, column]) <= EQUAL_WITHIN * ordinary.deviations[column]
            undone[close, column] = near[close]
        return self._whole("standardised", "standardised, and raw values were calibrated", rows, undone)

    def _whole(self, name: str, words: str, rows: Array, undone: Array) -> CommissioningNote | None:
        before, after, tests = self.strangeness_of(rows), self.strangeness_of(undone), self._tests(undone)
        if _clearly_more(before, after) and not any(not each.endswith("shared") for each in tests.found):
            return self._note(name, words, int((after < before).sum()), len(rows))
        return None

    def _undone(self, rows: Array, column: int) -> tuple[Array, CommissioningNote] | None:
        """The rows without the mistake that explains why `column` lies apart, and the note of it; None if none does.

        Of units and codes that do, the one with which rows are the least strange is compared with the exchange of the
        column for another; rows less strange than most ordinary ones are no more ordinary for that. Units that are
        not clearly worse are named beside it, those earlier in the table first.
        """
        assert self.ordinary is not None
        before = self.strangeness_of(rows)
        scaled: list[tuple[Array, Array, SendingMistake]] = []
        for mistake in scaled_columns():
            tried = rows.copy()
            tried[:, column] = mistake.undo(rows[:, column])
            if self._fits(tried, column) and not _clearly_more(after := self.strangeness_of(tried), before):
                scaled.append((np.maximum(after, np.median(self.reference)), tried, mistake))
        swapped: list[tuple[Array, Array, int]] = []
        for other in range(rows.shape[1]):
            tried = _exchanged(rows, column, other)
            fits = other != column and self._fits(tried, column, other)
            if fits and _clearly_more(before, after := self.strangeness_of(tried)):
                swapped.append((after, tried, other))
        if not scaled and not swapped:
            return None
        best_scaled = min(scaled, key=lambda each: float(each[0].mean()), default=None)
        best_swapped = min(swapped, key=lambda each: float(each[0].mean()), default=None)
        if best_scaled is None or (best_swapped is not None and best_swapped[0].mean() < best_scaled[0].mean()):
            assert best_swapped is not None
            _, tried, other = best_swapped
            return tried, self._exchange_note(column, other, len(rows))
        near = [each for each in scaled if not _clearly_more(each[0], best_scaled[0])]
        _, tried, mistake = near[0]
        others = [each.name for _, _, each in near[1 : 1 + ALTERNATIVES]]
        words = f"to have {self._name(column)} {mistake.words}" + (f", or {' or '.join(others)}" if others else "")
        return tried, replace(
            self._note(mistake.name, words, self._moved(rows, tried, column), len(rows)), others=tuple(others)
        )

    def _exchange_note(self, first: int, second: int, rows: int) -> CommissioningNote:
        one, other = (self._name(column) for column in sorted((first, second)))
        words = f"to have {one} and {other} in each other's place"
        return self._note("columns exchanged", words, rows, rows)

    def _joint(self, rows: Array) -> CommissioningNote | None:
        """The mistake of a column or a pair that makes rows ordinary of which no column lies apart by itself.

        Units are tried in the `LIKELIEST` columns that come nearest to that, exchanges among `EXCHANGED` of them.
        """
        order = sorted(range(rows.shape[1]), key=lambda column: self._column_p(rows, column))
        found = [each for each in (self._undone(rows, column) for column in order[:LIKELIEST]) if each]
        for pair in combinations(sorted(order[:EXCHANGED]), 2):
            found.append((_exchanged(rows, *pair), self._exchange_note(*pair, len(rows))))
        if not found:
            return None
        undone, note = min(found, key=lambda each: float(self.strangeness_of(each[0]).mean()))
        helps = _clearly_more(self.strangeness_of(rows), self.strangeness_of(undone))
        return note if helps and self._tests(undone).ordinary else None

    def _moved(self, rows: Array, undone: Array, column: int) -> int:
        """In how many rows the value of a column lies nearer to the middle of calibration's once undone."""
        assert self.ordinary is not None
        benign = self.ordinary.values[column]
        before, after = (np.abs(np.searchsorted(benign, each[:, column]) - len(benign) / 2) for each in (rows, undone))
        return int((after < before).sum())

    def _differs(self, rows: Array, *, explained: bool) -> list[CommissioningNote]:
        """Notes on what is still apart."""
        tests, found = self._tests(rows), []
        if not tests.strange:
            return []
        assert self.ordinary is not None
        for name in tests.found:
            column, _, side = name.partition(" ")
            if side == "shared":
                value, _ = self._shared(rows, int(column))
                count = int(np.isclose(rows[:, int(column)], value).sum())
                words = f"have {self._name(int(column))} at {value:.4g}, more than calibration rows have"
                found.append(
                    self._note(f"unexplained: {self._name(int(column))}", words, count, len(rows), explained=False)
                )
            elif side in ("above", "below"):
                sign = 1 if side == "above" else -1
                benign = np.sort(sign * self.ordinary.values[int(column)])
                count = int((sign * rows[:, int(column)] > benign[-max(1, int(_TAIL * len(benign)))]).sum())
                words = f"have {self._name(int(column))} {side} nearly all calibration rows"
                found.append(
                    self._note(f"unexplained: {self._name(int(column))}", words, count, len(rows), explained=False)
                )
        return found or ([] if explained else [self._strange(rows)])

    def _strange(self, rows: Array) -> CommissioningNote:
        count = int((self.strangeness_of(rows) > self.reference[-max(1, int(_TAIL * len(self.reference)))]).sum())
        words = (
            "are strange, though each column by itself is ordinary" if self.ordinary else "are strange to the screens"
        )
        return self._note(f"unexplained: {STRANGE_ROWS}", words, count, len(rows), explained=False)

    def _name(self, column: int) -> str:
        names = encoded_names(self.spec.columns)
        return repr(names[column]) if names else f"column {column}"

    def _note(self, word: str, words: str, rows: int, of: int, *, explained: bool = True) -> CommissioningNote:
        return CommissioningNote(word=word, words=words, rows=rows, of=of, kind="row", explained=explained)


def _exchanged(rows: Array, first: int, second: int) -> Array:
    """The rows with two columns in each other's place."""
    tried = rows.copy()
    tried[:, [first, second]] = rows[:, [second, first]]
    return tried


def _clearly_more(values: Array, others: Array) -> bool:
    """Whether clearly more rows have the larger one of two values in `values`."""
    return sign_test(int((values > others).sum()), int((values < others).sum())) <= PAIRED
