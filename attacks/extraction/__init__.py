"""Stealing a model: a clone trained on what the target answers. `Theft` runs any `Strategy`."""

from attacks.extraction.active import ActiveThief
from attacks.extraction.adaptive_pool import AdaptivePool
from attacks.extraction.alignment import Alignment
from attacks.extraction.base import Asker, Loot, Strategy
from attacks.extraction.copycat import CopyCat
from attacks.extraction.dfme import DFME
from attacks.extraction.disagreement import Disagreement
from attacks.extraction.head import Head, HeadAlgebra, recover_head
from attacks.extraction.jacobian import Jacobian
from attacks.extraction.knockoff import Knockoff, RandomPool
from attacks.extraction.recovery import Recovery
from attacks.extraction.semi_supervised import SemiSupervised
from attacks.extraction.theft import Theft

__all__ = [
    "DFME",
    "ActiveThief",
    "AdaptivePool",
    "Alignment",
    "Asker",
    "CopyCat",
    "Disagreement",
    "Head",
    "HeadAlgebra",
    "Jacobian",
    "Knockoff",
    "Loot",
    "RandomPool",
    "Recovery",
    "SemiSupervised",
    "Strategy",
    "Theft",
    "recover_head",
]
