"""Every attack on every arm of one deployment, and the judgement of each.

A model that training defended is meant to withstand attacks of some families without any guard, so these prove
themselves on the model as it was before (`Deployment.before`). Others do not: what they take from the deployed model
itself is what its guard must keep. Both are run on the bare models before and after, for training against one attack
may help another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from medward.attacks.base import Attack, AttackData, AttackResult, Examination
from medward.attacks.validation.before import compare_decisions, doubt_before
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.family import Family, Runs
from medward.attacks.validation.finding import ARMS, Arm, CleanCost, Finding
from medward.attacks.validation.interaction import compare_models
from medward.attacks.validation.journal import Journal, network_digest, settings_of, unpack_result, value_name
from medward.attacks.validation.judging import judge_attack
from medward.attacks.validation.one_run import examine_attack, run_attack
from medward.attacks.validation.progress import Progress
from medward.attacks.validation.record import Interaction, TwinFacts
from medward.guard.profile import forward_batches

INTERACTION = "interaction"
"""Why an attack is run on the other bare model, too: to show what training changed."""
_SAMPLE = 16
"""Rows whose outputs help to name the network."""


class Runner:
    """Runs attacks of every family on the arms of one deployment, each run once, and judges them.

    `names` is what names a run. Where there is a model before, `facts` is what the report says of it and `interactions`
    what training changed, attack by attack.
    """

    def __init__(self, deployment: Deployment, journal: Journal, common: Mapping[str, Any], data: AttackData) -> None:
        self._deployment, self._journal, self._seed = deployment, journal, int(common["seed"])
        sample, before, model = data.test.inputs[:_SAMPLE], deployment.before, deployment.bundle.model
        read = {} if deployment.decide is None else {"decide": value_name(deployment.decide)}
        read |= {} if deployment.manifest is None else {"manifest": deployment.manifest.digest}
        read |= {} if deployment.canaries is None else {"canaries": deployment.canaries.digest}
        self.names = {**common, **read, "network": network_digest(deployment.network, sample)}
        self.facts: TwinFacts | None = None
        self.interactions: list[Interaction] = []
        if before is not None:
            self._own = {"twin": before.digest, "network": network_digest(before.network, sample)}
            outputs = forward_batches(before.model, data.test.inputs).scores
            self._before = replace(data, outputs=outputs, reference=deployment.decided(outputs))
            self.facts = compare_decisions(before, self._before, data, model.spec.task)
            self._doubt = doubt_before(before, self.facts, data, model.spec.task)

    def finding(self, family: Family, attack: Attack, data: AttackData, clean: CleanCost, bar: Progress) -> Finding:
        """`attack` on every arm, and what the gate says; with a model before, on the other bare model too."""
        bundle, before = self._deployment.bundle, self._deployment.before_claim(family.claim)
        results: dict[Arm, AttackResult] = {}
        adaptive = attack.adaptive(bundle.policy)
        for arm, runner in zip(ARMS, (attack, attack, adaptive), strict=True):
            if runner is None:
                bar.done(f"{attack.name}, {arm}", "no attacker who knows the guard")
                continue
            doubts = (self._doubt,) if before is not None and self._doubt else ()
            if arm == "undefended":
                results[arm] = self._bare(family, attack, data, bar, before=before is not None, doubts=doubts)
                continue
            names = self.names
            if before is not None and arm == "guarded" and before.network is not None:
                names = {**names, "source": self._own["network"]}
            what = f"{attack.name}, {arm}"
            results[arm] = self._once(family, runner, arm, self._deployment, data, names, bar, doubts=doubts, what=what)
        deployed = results["undefended"]
        controls: list[AttackResult] = []
        while data.control is not None:
            larger = data.control(attack, (controls or [deployed])[-1], len(controls))
            if larger is None:
                break
            doubts = (self._doubt,) if before is not None and self._doubt else ()
            controls.append(
                self._bare(family, larger, data, bar, before=before is not None, doubts=doubts, also="control")
            )
        if self._deployment.before is not None:
            doubts = (self._doubt,) if self._doubt else ()
            other = self._bare(family, attack, data, bar, before=before is None, doubts=doubts, also=INTERACTION)
            bare = (results["undefended"], other) if before is not None else (other, results["undefended"])
            deployed = bare[1]
            self.interactions.append(
                compare_models(
                    family, attack.name, *bare, rows=len(data.test), claimed=before is not None, seed=self._seed
                )
            )
        examined = {
            each.name: unpack_result(
                self._journal.once(
                    {**self.names, "run": each.name, "attack": settings_of(attack)},
                    partial(self._examined, attack, each, bar),
                )[0]
            )
            for each in data.examinations
        }
        no_network = self._deployment.no_network if self._deployment.network is None else ""
        if self._deployment.network is not None and before is not None and before.network is None:
            no_network = f"on the model before hardening: {before.no_network}"
        return judge_attack(
            family,
            Runs(
                attack=attack,
                results=results,
                spec=bundle.model.spec,
                seed=self._seed,
                adaptive=adaptive,
                bare=deployed,
                held=data,
                examined=examined,
                control=controls[-1] if controls else None,
                privacy=self._deployment.privacy,
                policy=bundle.policy,
                prices=self._deployment.answer_prices(data.outputs),
                traffic=self._deployment.traffic,
            ),
            policy=bundle.policy,
            clean=clean,
            no_network=no_network,
            before=before is not None,
        )

    def _bare(
        self,
        family: Family,
        attack: Attack,
        data: AttackData,
        bar: Progress,
        *,
        before: bool,
        doubts: tuple[str, ...],
        also: str = "",
    ) -> AttackResult:
        """`attack` on the bare model, that `before` training or the deployed one; `also` says why besides the arm."""
        deployment, names, held = replace(self._deployment, before=None), self.names, data
        if before:
            deployment, names = self._deployment.bare_before(), {**names, **self._own}
            held = replace(data, outputs=self._before.outputs, reference=self._before.reference)
        which = f"bare model {'before' if before else 'after'} training" if also == INTERACTION else also
        what = f"{attack.name}, {which or 'undefended'}"
        return self._once(family, attack, "undefended", deployment, held, names, bar, doubts=doubts, what=what)

    def _examined(self, attack: Attack, examination: Examination, bar: Progress) -> Any:
        bar.begin(f"{attack.name}, {examination.name}")
        return examine_attack(attack, examination, self._deployment.bundle.model.spec, self._seed)

    def _once(
        self,
        family: Family,
        runner: Attack,
        arm: Arm,
        deployment: Deployment,
        data: AttackData,
        names: Mapping[str, Any],
        bar: Progress,
        *,
        doubts: tuple[str, ...],
        what: str,
    ) -> AttackResult:
        """One run of an attack on one arm, recalled where it was kept."""

        def run() -> Any:
            bar.begin(what)
            return run_attack(family, runner, arm, deployment, data, self._seed)

        packed, recalled = self._journal.once({**names, "run": arm, "attack": settings_of(runner)}, run)
        found = unpack_result(packed)
        result = replace(found, flags=(*found.flags, *doubts, *data.flags))
        achieved = family.achieved(result, self._seed)
        outcome = "judged on no row" if achieved is None else str(achieved)
        bar.done(what, outcome, recalled=recalled)
        return result
