"""A task and what a site chose about its levels, as one filter of any number of classes."""

from __future__ import annotations

from medward.guard.tasks.base import ReleaseSettings, offers
from medward.guard.tasks.classification import Classification


class ReleaseLevels:
    """The levels of a classification of as many classes as the scores have columns."""

    def __init__(self, *, output, threshold=None, **settings):
        self.output, self.threshold, self.settings = output, threshold, ReleaseSettings(**settings)
        self.decimals, self.top = self.settings.decimals, self.settings.top
        self.temperature = self.settings.temperature

    def _task(self, scores):
        names = tuple(map(str, range(scores.shape[-1])))
        return Classification(classes=names, output=self.output, threshold=self.threshold)

    def labels(self, scores):
        return self._task(scores).decide(scores)

    def release(self, scores, level):
        return self._task(scores).release(scores, level, self.settings)

    def bits(self, scores, level):
        return self._task(scores).bits(scores, level, self.settings)

    def offers(self, scores, level):
        return offers(self._task(scores), scores, level, self.settings)
