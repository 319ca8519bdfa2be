"""What an organisation's alarm stops and costs, from when its rungs are reached."""

import numpy as np
import stealing_roots as bench

BENIGN = 10
PASSES = np.arange(20) % 2 == 0  # rows from BENIGN on are stolen, and the screen refuses every second one


def stolen(rows, **first):
    return bench._stolen((np.array(rows), first), PASSES, BENIGN)


def test_rows_are_counted_until_the_rung_that_stops_them_and_the_screen_takes_its_own():
    rows = [10, 0, 11, 12, 1, 13, 14]
    found = stolen(rows, coarsened=4, withheld=7)
    assert found["asked"] == 5
    assert (found["fine"], found["answered"]) == (1, 2)
    assert (found["fine, monitors alone"], found["answered, monitors alone"]) == (2, 4)
    never = stolen(rows)
    assert (never["fine"], never["answered, monitors alone"]) == (3, 5)


def test_accounts_add_up_under_flag_and_share_one_alarm_under_withhold():
    account = {"fine": 2, "answered": 3}
    organisation = {"fine": 4, "answered": 6}
    found = bench._answered([account], [organisation], 1000, "")
    assert found["flag"] == {"fine": 2000, "answered": 3000}
    assert found["coarsen"] == {"fine": 4, "answered": 3000}, "labels leave as before"
    assert found["withhold"] == {"fine": 4, "answered": 6}
    one = bench._answered([account], [organisation], 1, "")
    assert one["withhold"] == one["flag"], "a lone account is stopped by its own alarm first"


def test_the_innocent_pay_from_the_alarm_on_until_somebody_acts():
    asked = bench.DAILY * 10
    cost = bench._cost([{"coarsened": asked // 4, "withheld": asked // 2}, {}], 10)
    assert cost["1"] == {"coarsened": 0.375, "withheld": 0.25}
    assert cost["7"]["withheld"] > cost["3"]["withheld"] > cost["1"]["withheld"]
    assert bench._cost([{}], 10)["7"] == {"coarsened": 0, "withheld": 0}


def test_a_rung_that_was_never_reached_has_no_median():
    found = bench._times([{"coarsened": 3}, {"coarsened": 5, "withheld": 9}, {}])
    assert found["coarsened"] == {"median": 5, "never": 1, "n": 3}
    assert found["withheld"] == {"median": None, "never": 2, "n": 3}
