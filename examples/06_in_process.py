"""As in a notebook: put a model behind a guard, ask it, read answers in words, and see an account raise an alarm.

A guard that is started again on the same state folder still knows the account.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import medward

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def ask(guard: medward.Guard, who: str, rows: np.ndarray) -> medward.Answer:
    return guard.answer(medward.Query(principal=("hospital", who), inputs=rows))


def main() -> None:
    logging.getLogger("medward").setLevel(logging.ERROR)  # alarms are printed here
    pixels, digits = load_digits(return_X_y=True)  # as rows of a table: 64 numbers from 0 to 16
    model = LogisticRegression(max_iter=200).fit(pixels[:700] / 16, digits[:700])
    benign = medward.Split(pixels[700:1500] / 16, digits[700:1500])
    fresh = pixels[1500:] / 16
    with tempfile.TemporaryDirectory() as folder:
        work, told = Path(folder), []
        policy = medward.Policy(on_error="withhold", screen={"action": "flag"})
        medward.protect(model, benign, policy, work / "bundle", classes=WORDS)
        bundle = medward.load(work / "bundle")

        with bundle.guard(state=work / "state", on_alarm=told.append) as guard:
            answer = ask(guard, "reader", fresh[:3])
            print(f"decided: {', '.join(answer.decisions)}")
            row = answer.rows()[0]
            print(f"one row as a client reads it: {row['label']} (index {row['index']}), level {row['level']}")
            print(f"most likely: {max(row['scores'])}")

            rng = np.random.default_rng(0)
            answers = [ask(guard, "thief", row[None]) for row in rng.uniform(size=(40, 64))]  # about noise
            print(f"thief, query {len(answers)}: {answers[-1].decisions[0]}")
            for alarm in told:
                rose = alarm.evidence["peak"] / np.log(10)
                print(f"alarm: {alarm.account}, {alarm.action.label}, e-value 10^{rose:.1f}, query {alarm.query[:8]}")

        with bundle.guard(state=work / "state", on_alarm=told.append) as again:
            print(f"after a restart: thief {ask(again, 'thief', fresh[:1]).decisions[0]}", end=", ")
            print(f"reader {ask(again, 'reader', fresh[:1]).decisions[0]}")

        with bundle.guard(ephemeral=True) as forgetful:  # for trying things: nothing is kept, nothing recorded
            print(f"without a state folder: thief {ask(forgetful, 'thief', fresh[:1]).decisions[0]}")


if __name__ == "__main__":
    main()
