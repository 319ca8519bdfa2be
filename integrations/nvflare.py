"""NVFlare's server with Medward's aggregation: a `ModelAggregator` for the FedAvg controller and for ScatterAndGather.

NVFlare takes a missing, negative or infinite step count for a weight of 1.0 and has no bound on a large one. Here such
an update is refused with a reason in the audit log, and the round goes on without it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from medward.guard.audit.log import AuditLog
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import ClientProbe, RoundResult
from medward.guard.federated.client_metrics import mean_metrics
from medward.guard.federated.configured import configured_aggregator
from medward.guard.federated.federation_state import FederationState
from medward.guard.federated.policy import FederatedPolicy
from medward.guard.federated.round_record import round_record
from medward.guard.federated.sanitise import Refusal
from medward.guard.federated.saved_round import load_round, save_round
from medward.guard.federated.update import ClientUpdate
from medward.guard.policy import Policy

_CLIENT = "client_name"  # NVFlare's controller writes it over whatever the client said


class GuardedModelAggregator(ModelAggregator):  # type: ignore[misc]
    """A guarded model aggregator refuses broken updates, judges clients by `probe`, and aggregates as `policy` says.

    `policy` is the path of a policy file on the server, whose section ``[federated]`` counts; empty for the defaults.
    `folder` holds the audit log (``audit.jsonl``) and the last round, so that a server that starts again knows its
    clients; one for each federation, for what is known of clients goes on from there; empty for the folder of the
    job's run. Clients send whole models or differences, as NumPy arrays. NVFlare
    checks that a client was asked in this round; its name is the one it was admitted by.

    Raises `MedwardError` where the server's model is not known: give the job a persistor.
    """

    def __init__(self, policy: str = "", folder: str = "", probe: ClientProbe | None = None) -> None:
        super().__init__()
        self.policy, self.folder, self.probe = policy, folder, probe
        chosen = Policy.load(Path(policy)).federated if policy else FederatedPolicy()
        self._aggregator = configured_aggregator(chosen, probe)
        self._received: list[FLModel] = []
        self._state: FederationState | None = None

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Keep what ScatterAndGather received, under the name by which NVFlare knows its sender."""
        self.fl_ctx = fl_ctx
        model = FLModelUtils.from_shareable(shareable, fl_ctx)
        model.meta[_CLIENT] = fl_ctx.get_peer_context().get_identity_name()
        self.accept_model(model)
        return True

    def accept_model(self, model: FLModel) -> None:
        """Keep what one client sent until the round is over: whom to refuse shows only beside the others."""
        self._received.append(model)

    def reset_stats(self) -> None:
        """Forget the round's updates; what is known of clients stays."""
        self._received = []

    def aggregate_model(self) -> FLModel:
        """The next whole model, with the means of the clients' metrics by their weights; the audit log has the rest."""
        folder = self._opened_folder()
        named = _global_parameters(self.fl_ctx)
        start = list(named.values())
        read = [_client_update(model, named) for model in self._received]
        refusals = list(dict.fromkeys(each for each in read if isinstance(each, Refusal)))
        broken = {each.node for each in refusals}
        updates = [each for each in read if isinstance(each, ClientUpdate) and each.node not in broken]
        before = self._state or _kept_state(folder, start)
        state, result = self._aggregator.step(before, start, updates, {update.node for update in updates})
        result = replace(result, refusals=(*refusals, *result.refusals))
        AuditLog(folder / "audit.jsonl", fsync=True).append(
            round_record(state.round, result, self._aggregator.rule, updates)
        )
        self._state, self._received = save_round(folder, state, result.parameters).state, []
        self._tell(state.round, result)
        return FLModel(
            params_type=ParamsType.FULL,
            params=dict(zip(named, result.parameters, strict=True)),
            metrics=mean_metrics(updates, result.weights) or None,
        )

    def _opened_folder(self) -> Path:
        if self.folder:
            folder = Path(self.folder)
        else:
            workspace, job = self.fl_ctx.get_engine().get_workspace(), self.fl_ctx.get_job_id()
            folder = Path(workspace.get_run_dir(job)) / "medward"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _tell(self, number: int, result: RoundResult) -> None:
        for refusal in result.refusals:
            self.warning(f"round {number}: refused {refusal.node}: {refusal.reason}")
        for suspect in result.judgement.suspects if result.judgement else ():
            self.warning(
                f"round {number}: suspected {suspect.node}: {suspect.view} {suspect.peak:.1f} > {suspect.threshold:g}"
            )


def _kept_state(folder: Path, start: Sequence[np.ndarray]) -> FederationState:
    """The state after the last round that `folder` holds; raises `MedwardError` where that was of another model."""
    kept = load_round(folder)
    if kept is None:
        return FederationState()
    if [(each.shape, each.dtype) for each in kept.parameters] != [(each.shape, each.dtype) for each in start]:
        raise MedwardError(f"{folder}: holds a round of a model of other shapes; give an empty folder")
    return kept.state


def _client_update(model: FLModel, start: Mapping[str, np.ndarray]) -> ClientUpdate | Refusal:
    """What a client sent as a whole model in the order of `start`, or why it cannot be read as one."""
    node = str((model.meta or {}).get(_CLIENT) or "")
    if not node:
        return Refusal("(unnamed)", "came without the name of its sender")
    sent = model.params
    if not isinstance(sent, Mapping) or not all(isinstance(each, np.ndarray | np.generic) for each in sent.values()):
        return Refusal(node, "sent no NumPy arrays by name; set the exchange format of the job to numpy")
    if missing := [name for name in start if name not in sent]:
        return Refusal(node, f"sent no array {missing[0]!r}; {len(missing)} of the model's {len(start)} are missing")
    if unknown := [name for name in sent if name not in start]:
        return Refusal(node, f"sent an array {unknown[0]!r}, which the model has not")
    arrays = [np.asarray(sent[name]) for name in start]
    if model.params_type == ParamsType.DIFF:
        arrays = [_moved(own, change) for own, change in zip(start.values(), arrays, strict=True)]
    steps = model.meta.get(FLMetaKey.NUM_STEPS_CURRENT_ROUND)
    metrics = model.metrics if isinstance(model.metrics, Mapping) else {}
    said = {name: value for name, value in metrics.items() if isinstance(name, str) and _is_number(value)}
    return ClientUpdate(node=node, parameters=arrays, examples=steps, metrics=said)


def _moved(own: np.ndarray, change: np.ndarray) -> np.ndarray:
    """`own` and a client's change to it; a change of another shape or dtype as it is, to be refused for that."""
    if own.shape != change.shape or own.dtype != change.dtype:
        return change
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(own + change, dtype=own.dtype)


def _global_parameters(fl_ctx: FLContext | None) -> dict[str, np.ndarray]:
    """The server's own model of this round, by name."""
    learnable = None if fl_ctx is None else fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
    weights = None if learnable is None else learnable.get(ModelLearnableKey.WEIGHTS)
    if not weights or not all(isinstance(each, np.ndarray | np.generic) for each in weights.values()):
        raise MedwardError(
            "nvflare: the server's model is not there as NumPy arrays, so what clients changed cannot be told; "
            "give the job a persistor (a recipe does), and numpy as its exchange format"
        )
    return {name: np.asarray(each) for name, each in weights.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
