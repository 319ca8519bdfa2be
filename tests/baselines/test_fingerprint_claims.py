"""A claim of clones told is met only by tasks of which some fingerprint claims power, and says how many do."""

import fingerprint as bench
import pytest

THIEVES = ("knockoff", "jbda")


def task(power, area, claimed=1):
    thieves = {name: {"auc_where_power": area, "with_power": claimed} for name in THIEVES}
    return {"with the recipe": {"thieves": thieves, "powerful": {"unrelated inputs": power, "own cases": 0.0}}}


def test_the_share_of_fingerprints_that_claim_power_stands_beside_the_value():
    claim = bench.told({"WDBC": task(0.9, 0.95)})
    assert claim.met
    assert "(WDBC 90% and 0%)" in claim.target
    assert claim.details["share_claiming_power"]["WDBC"]["unrelated inputs"] == 0.9


@pytest.mark.parametrize(
    "silent", [task(0.0, None, claimed=0), {"with the recipe": {"fingerprints": 0}}], ids=["no power", "none made"]
)
def test_a_task_where_no_fingerprint_claims_power_is_not_met_however_good_the_others_are(silent):
    claim = bench.told({"WDBC": task(0.9, 0.95), "blood": silent})
    assert claim.value == 0.95
    assert claim.details["tasks_met"] == {"WDBC": True, "blood": False}
    assert not claim.met


def test_a_thief_who_is_told_less_often_than_asked_is_not_met():
    assert not bench.told({"WDBC": task(0.9, 0.85)}).met
    assert not bench.told({}).met
