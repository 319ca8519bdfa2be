"""Signs that an evasion evaluation cannot be trusted: each check returns one sentence, or None.

A defense that hides its gradients, or an attack that never ran, looks exactly like a robust model. These checks
tell them apart. A flag never says that the model is weak, only that "held" would be unfounded; where it can tell, it
names the fake (`FAKES`). Honest networks are not accused.

| check | rule | function | where |
|---|---|---|---|
| C1 differentiable | a gradient, and it is the slope of the scores | `hidden`, `misleading`, `inflated` | network |
| C2 stable | the same input, the same scores | `unstable` | network |
| C3 silent success | what was won is still won when asked again | `forgotten` | search |
| C4 converged | no gain late in the run | `not_converged` | run |
| C4 converged | no gain by twice the steps | `not_doubled` | search |
| C5 transfer | examples of a surrogate, and of the model before hardening, win no more | `weaker_than` | search |
| C5 transfer | a perturbation of the model before hardening wins no more | `weaker_than` | attack |
| C6 unbounded | without a radius every row falls | `survives_anything` | search |
| C7 monotone | success grows with the radius, from 0 at 0 | `not_monotone` | run |
| C8 ordering | noise, one step, a search without gradients win no more | `weaker_than` | search |
| C8 ordering | noise wins no more; held-out rows no more than craft rows | `weaker_than_noise`, `better_unseen` | run |
| C8 ordering | one change for all rows wins no more than one for each | `beyond_per_image` | search |
| C9 numerics | in the ball and in range; survives an 8-bit file | `out_of_bounds`, `lost_when_stored` | network |
| C9 numerics | logits, not probabilities | `probabilities` | network |
| C9 numerics | the deployed model itself is asked, in its own precision | `EvasionSetup.fooled` | attack |
| C10 alive | steps were taken, something changed | `not_alive` | run |
| C10 alive | the undefended model or twin falls, beyond noise | `attacks.evasion.cell.EvasionCell.too_weak` | gate |
| C11 adaptive | the screens can be followed, and got past | `dead_screens`, `found_nothing` | attack |
| C11 adaptive | no attacker who knows the guard, nothing held | `attacks.validation.gate.judge` | gate |
| C12 statistics | another seed, the same success | `seed_dependent` | search |
| C12 statistics | the interval's bad end decides; rows it needs | `attacks.validation.gate.rows_needed_text` | gate |
| C13 utility | it answers, and not always the same | `always_abstains`, `one_answer` | run, network |
| C13 utility | benign users are not refused | `attacks.validation.gate.judge` | gate |

"network" and "search" run in `evasion_flags` (searches only where `thorough`), "run" in `run_flags`.

Reference: Carlini et al., "On evaluating adversarial robustness", 2019, sec. 5; Athalye, Carlini, Wagner,
"Obfuscated gradients give a false sense of security", ICML 2018, sec. 3.1; Pintor et al., "Indicators of
attack failure", NeurIPS 2022.
"""

from medward.attacks.checks.network import CHECKED_ROWS, evasion_flags
from medward.attacks.checks.runs import (
    always_abstains,
    is_of_no_use,
    not_alive,
    not_monotone,
    run_flags,
    weaker_than_noise,
)
from medward.attacks.checks.screens import dead_screens, found_nothing
from medward.attacks.checks.searches import SHIFT_CHECK, TWIN_CHECK, weaker_than

__all__ = [
    "CHECKED_ROWS",
    "FAKES",
    "SHIFT_CHECK",
    "TWIN_CHECK",
    "always_abstains",
    "dead_screens",
    "evasion_flags",
    "found_nothing",
    "is_of_no_use",
    "named_fakes",
    "not_alive",
    "not_monotone",
    "run_flags",
    "weaker_than",
    "weaker_than_noise",
]

FAKES = ("logit scaling", "quantiser", "gradient killer", "random front end", "always abstains", "zero steps")
"""What looks robust without being so, by the names that flags use."""


def named_fakes(flags: tuple[str, ...]) -> tuple[str, ...]:
    """The fakes that `flags` name."""
    return tuple(fake for fake in FAKES if any(fake in flag for flag in flags))
