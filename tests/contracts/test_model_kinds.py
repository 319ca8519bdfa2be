"""Every kind of model that hospitals deploy is served as it decides, or refused by name: no wrong answer, no riddle."""

from __future__ import annotations

import pytest
from support.model_kinds import KINDS, attacked, tried


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_served_as_it_decides_or_refused_by_name(name, tmp_path):
    assert tried(KINDS[name], tmp_path) == ("refused" if KINDS[name].refused else "served")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.white_box])
def test_what_has_gradients_is_attacked_with_them(name, tmp_path):
    assert attacked(KINDS[name], tmp_path).startswith("white-box")
