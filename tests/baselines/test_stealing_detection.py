import numpy as np
import pytest
import stealing_detection as bench
from stealing.asked import NATURAL
from stealing.scene import seen
from support.models import LinearModel, benign_rows

THIEF = "dfme"


@pytest.fixture(scope="module")
def mixed(linear_model, linear_profile):
    """Benign rows, and twenty of a thief far away."""
    benign = benign_rows(LinearModel)[:200]
    far = benign[:20] + np.float32(30)
    parts = [seen(linear_model, linear_profile, rows) for rows in (benign, far)]
    columns = {part: np.concatenate([each[part] for each in parts]) for part in parts[0]}
    return columns, [""] * 200 + [f"far {i}" for i in range(20)]


def flagged(profile, mixed, rows, accounts=1, **more):
    return bench.flagged(profile, *mixed, rows, accounts, **more)


def test_a_stream_holds_the_thief_s_queries_in_order_and_ends_with_the_theft():
    rows = bench.stream(THIEF, 50, 30, 0.25, np.random.default_rng(0))
    assert rows[rows >= 50].tolist() == list(range(50, 80))
    assert 60 < len(rows) < 300
    assert len(bench.stream(THIEF, 50, 30, 0.0, np.random.default_rng(0))) == bench.PATIENCE
    assert len(bench.stream(THIEF, 50, 30, 1.0, np.random.default_rng(0))) == 30
    benign = rows[rows < 50]
    assert len(benign) > 50
    assert sorted(benign[:50]) == list(range(50)), "no row comes again before all came"


def test_a_thief_without_an_order_starts_anywhere_and_asks_nothing_twice():
    starts = set()
    for seed in range(20):
        rows = bench.stream(NATURAL, 7, 30, 1.0, np.random.default_rng(seed))
        assert sorted(rows) == list(range(7, 37))
        starts.add(int(rows[0]))
    assert len(starts) > 5


def test_blocks_change_nothing_and_a_benign_account_is_never_flagged(linear_profile, mixed):
    rng = np.random.default_rng(1)
    benign = rng.integers(200, size=300)
    assert flagged(linear_profile, mixed, benign) == {"parent": None, "account": None}
    rows = np.where(rng.random(300) < 0.5, 200 + rng.permuted(np.arange(300) % 20), benign)
    for accounts in (1, 3):
        blocks = [flagged(linear_profile, mixed, rows, accounts, block=block) for block in (1, 7, 50)]
        assert blocks[0] == blocks[1] == blocks[2]
        assert blocks[0]["parent"] is not None


def test_many_accounts_are_seen_at_their_parent(linear_profile, mixed):
    rows = np.arange(200, 220)
    many = flagged(linear_profile, mixed, rows, accounts=20)
    assert many["parent"] is not None
    assert many["account"] is None, "one query each says too little"
    one = flagged(linear_profile, mixed, rows)
    assert one["parent"] <= many["parent"], "alpha is split over a path"


def test_a_summary_says_never_where_it_is_never():
    said = bench.summary([3, 5, np.inf])
    assert (said["median"], said["p90"], said["never"]) == (5, None, 1)
    assert bench.summary([np.inf] * 3)["median"] is None
    assert bench.summary([1, 2, 3, 4])["median"] == 3, "the upper of two middles"
    assert bench.either({"parent": None, "account": 4}) == 4
    assert bench.either({"parent": 3, "account": 4}) == 3
    assert np.isinf(bench.either({"parent": None, "account": None}))
