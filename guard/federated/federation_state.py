"""What a federation's server remembers from one round to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.federated.robust_feddetect import ClientRecord, records_from_json, records_to_json
from medward.guard.federated.update import ModelParameters
from medward.guard.federated.update_sums import Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationState:
    """What a server keeps from round to round, so that one that was killed goes on as if it had not been.

    `previous`, the last aggregate's change, and `sums`, each client's updates so far, are for rules that look at them
    and None or empty otherwise. They are of the model's size: save `to_json` and `arrays`, and give both to
    `from_json`.
    """

    round: int = 0
    records: Mapping[str, ClientRecord] = field(default_factory=dict)
    previous: ModelParameters | None = None
    sums: Sums = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON has it, without arrays of the model's size."""
        return {"round": self.round, "records": records_to_json(self.records), "summed": list(self.sums)}

    def arrays(self) -> dict[str, ModelParameters]:
        """The arrays of the model's size by name: what is not in the JSON."""
        sums = {f"sum{place}": each for place, each in enumerate(self.sums.values())}
        return sums if self.previous is None else {**sums, "previous": self.previous}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], arrays: Mapping[str, ModelParameters] | None = None) -> FederationState:
        """The state that `to_json` and `arrays` wrote; raises `MedwardError` where sums of updates are missing."""
        arrays, nodes = arrays or {}, kept.get("summed", [])
        if missing := [node for place, node in enumerate(nodes) if f"sum{place}" not in arrays]:
            raise MedwardError(f"state: the sum of the updates of {missing[0]} was not given; save and pass arrays too")
        return cls(
            round=int(kept["round"]),
            records=records_from_json(kept["records"]),
            previous=arrays.get("previous"),
            sums={node: arrays[f"sum{place}"] for place, node in enumerate(nodes)},
        )
