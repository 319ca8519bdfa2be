"""Disjoint sets (union-find with halved paths; Tarjan and van Leeuwen 1984): which of many things hang together."""

from __future__ import annotations


class DisjointSets:
    """Disjoint sets hold the numbers from 0 to before `count`, at first each in a set of its own."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def join(self, one: int, two: int) -> None:
        """Put the sets that hold `one` and `two` together."""
        first, second = sorted((self._first(one), self._first(two)))
        self._above[second] = first

    def sets(self) -> list[list[int]]:
        """All sets, each in order, in the order of their first numbers."""
        found: dict[int, list[int]] = {}
        for each in range(len(self._above)):
            found.setdefault(self._first(each), []).append(each)
        return list(found.values())

    def _first(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number
