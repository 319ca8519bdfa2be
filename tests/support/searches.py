"""Searches for tests: everything an attack needs but its own technique, in one line."""

from __future__ import annotations

import torch

from medward.attacks.evasion.asking import BlackBoxSearch, without_gradients
from medward.attacks.whitebox.criterion import ANY_CLASS, ClassChange
from medward.attacks.whitebox.search import Search


def searching(network, ball, seed=0, *, goal=None, **settings):
    """A search of class changes on `network`, with random numbers of `seed`."""
    return Search(network, ClassChange(goal), ball, torch.Generator().manual_seed(seed), **settings)


def asking(network, ball, seed=0, *, through=lambda ask: ask):
    """The same by answers alone, which `through` may change before they are seen."""
    plain = without_gradients(searching(network, ball, seed))
    return BlackBoxSearch(through(plain.ask), ANY_CLASS, ball, plain.generator)
