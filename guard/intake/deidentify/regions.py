"""Rectangles of pixels, and how they are joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medward.guard.intake.deidentify.disjoint_sets import DisjointSets

_COLUMN = 64  # pixels wide, in which regions are looked up


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A region is a rectangle of pixels: rows `top` to before `bottom`, columns `left` to before `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """In pixels; 0 where it is empty."""
        return max(0, self.height) * max(0, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """What picks the region out of an array ``(H, W)``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, shape: tuple[int, int]) -> Region:
        """The region with `margin` more pixels on every side, within an image of `shape`."""
        return Region(
            max(0, self.top - margin),
            max(0, self.left - margin),
            min(shape[0], self.bottom + margin),
            min(shape[1], self.right + margin),
        )

    def moved(self, down: int, right: int) -> Region:
        """The region at another place."""
        return Region(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def common(self, other: Region) -> int:
        """How many pixels both hold."""
        return Region(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        ).area

    def overlap(self, other: Region) -> float:
        """The intersection over the union of both areas."""
        both = self.common(other)
        return both / (self.area + other.area - both) if both else 0.0

    def gap(self, other: Region) -> int:
        """How many pixels lie between both, along the axis on which they are further apart."""
        down = max(self.top - other.bottom, other.top - self.bottom, 0)
        across = max(self.left - other.right, other.left - self.right, 0)
        return max(down, across)


def hull_of(regions: Sequence[Region]) -> Region:
    """The smallest region that holds all `regions`."""
    return Region(
        min(each.top for each in regions),
        min(each.left for each in regions),
        max(each.bottom for each in regions),
        max(each.right for each in regions),
    )


def distinct_regions(regions: Iterable[Region]) -> tuple[Region, ...]:
    """`regions` without those that lie within another."""
    kept: list[Region] = []
    for each in sorted(set(regions), key=lambda region: -region.area):
        if not any(each.common(other) == each.area for other in kept):
            kept.append(each)
    return tuple(sorted(kept))


def bridged_regions(regions: Iterable[Region]) -> tuple[Region, ...]:
    """`regions` and what lies between two of one line, up to two line heights apart: a reader can miss a word."""
    kept = distinct_regions(regions)
    bridges = [
        hull_of([one, two]) for place, one in enumerate(kept) for two in kept[place + 1 :] if _on_one_line(one, two)
    ]
    return distinct_regions([*kept, *bridges])


def _on_one_line(one: Region, two: Region) -> bool:
    both = hull_of([one, two])
    if both.width >= 2 * both.height:
        shared, sides = min(one.bottom, two.bottom) - max(one.top, two.top), (one.height, two.height)
    elif both.height >= 2 * both.width:
        shared, sides = min(one.right, two.right) - max(one.left, two.left), (one.width, two.width)
    else:
        return False
    if any((each.width < each.height) == (both.width > both.height) for each in (one, two)):
        return False  # one is not written in this direction
    return shared >= 0.6 * max(sides) and one.gap(two) <= 2 * min(sides)


def joined_regions(regions: Iterable[Region], gap: int = 0) -> tuple[Region, ...]:
    """`regions` without any two that are `gap` pixels or less apart: such are replaced by their hull.

    Regions are met from the top down, each compared with those of its columns only that have not ended yet.
    """
    joined, before = sorted(set(regions)), -1
    while len(joined) != before:
        before = len(joined)
        joined = sorted(hull_of(group) for group in _close_groups(joined, gap))
    return tuple(joined)


def _close_groups(regions: Sequence[Region], gap: int) -> list[list[Region]]:
    """`regions`, sorted, in groups that hang together by being `gap` pixels or less apart."""
    groups, columns = DisjointSets(len(regions)), dict[int, list[int]]()
    for place, region in enumerate(regions):
        for column in range((region.left - gap) // _COLUMN, region.right // _COLUMN + 1):
            open_ones = [each for each in columns.get(column, ()) if regions[each].bottom + gap >= region.top]
            for each in open_ones:
                if regions[each].gap(region) <= gap:
                    groups.join(each, place)
            columns[column] = [*open_ones, place]
        for column in range(region.right // _COLUMN + 1, (region.right + gap) // _COLUMN + 1):
            columns.setdefault(column, []).append(place)
    return [[regions[each] for each in group] for group in groups.sets()]
