"""A report model that is easy to steal, what its thieves hold, and small thieves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.report_models import SHAPE, CornerWriter, report_model

from medward.attacks.base import AttackData
from medward.attacks.extraction import Theft
from medward.attacks.extraction.reports import SmallStudent
from medward.attacks.target import Target, open_oracle
from medward.guard.data.split import Split

STUDENT = SmallStudent(width=64, layers=1)
QUERIES, STEP = 160, 80


def coarse_images(n, seed, spread=0.3):
    """Images of four squares of one brightness each, with a little noise: what `CornerWriter` reads is plain to see."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.uniform(0.5 - spread, 0.5 + spread, (n, 1, 2, 2)), np.ones((1, 1, 8, 8)))
    return np.clip(coarse + rng.normal(0, 0.03, (n, *SHAPE)), 0, 1).astype(np.float32)


def own_texts(images):
    """What the victim writes."""
    return CornerWriter(piecewise=False)(images)


class ReportVictim:
    """A report model and its thieves' data; `asked` holds the rows in the order they were asked.

    `answer` may spoil a response.
    """

    def __init__(self, oracle=None, answer=None):
        self.model, self.asked, self.answer = report_model(piecewise=False), [], answer or (lambda response: response)
        self._oracle = oracle or open_oracle(self.model)

    def __call__(self, inputs):
        self.asked.append(np.array(inputs))
        return self.answer(self._oracle(inputs))

    def target(self, threat):
        return Target(self.model.spec, self, threat)

    def data(self):
        test = coarse_images(150, 1)
        reference = self.model.spec.decide(self.model.predict(test).scores)
        return AttackData(
            craft=Split(coarse_images(QUERIES, 2)),
            test=Split(test, reference),
            pool=coarse_images(3 * QUERIES, 3),
            reference=reference,
        )

    def stolen(self, thief, seed=0):
        return thief.run(self.target(thief.threat), self.data(), seed=seed)

    @property
    def rows(self):
        return np.concatenate(self.asked)


def unrelated(response):
    """Answers that have nothing to do with the images: each is another row's."""
    return response.take(np.random.default_rng(len(response.labels)).permutation(len(response.labels)))


def withheld_half(response):
    """Withholds every other row."""
    odd = np.arange(len(response.labels)) % 2 == 1
    return replace(
        response,
        labels=np.where(odd, -1, response.labels),
        scores=np.where(odd[:, None], np.nan, response.scores),
        texts=tuple(None if hidden else text for hidden, text in zip(odd, response.texts, strict=True)),
    )


def text_thief(strategy, **settings):
    return Theft(**{"strategy": strategy, "labels": "text", "queries": QUERIES, "points": 1, "epochs": 10} | settings)
