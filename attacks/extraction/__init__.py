"""Stealing a model: a clone trained on what the target answers. `Theft` runs any `Strategy`."""

from medward.attacks.extraction.active import ActiveThief
from medward.attacks.extraction.adaptive_pool import AdaptivePool
from medward.attacks.extraction.alignment import Alignment
from medward.attacks.extraction.base import QueryChooser, StolenAnswers, Strategy
from medward.attacks.extraction.borrowed_layout import BorrowedLayout
from medward.attacks.extraction.copycat import CopyCat
from medward.attacks.extraction.dfme import DFME
from medward.attacks.extraction.disagreement import Disagreement
from medward.attacks.extraction.head import Head, HeadAlgebra, recover_head
from medward.attacks.extraction.in_domain import InDomainTheft
from medward.attacks.extraction.jacobian import Jacobian
from medward.attacks.extraction.knockoff import Knockoff, RandomPool
from medward.attacks.extraction.recovery import Recovery
from medward.attacks.extraction.semi_supervised import SemiSupervised
from medward.attacks.extraction.theft import Theft
from medward.attacks.extraction.walked_pool import WalkedPool

__all__ = [
    "DFME",
    "ActiveThief",
    "AdaptivePool",
    "Alignment",
    "BorrowedLayout",
    "CopyCat",
    "Disagreement",
    "Head",
    "HeadAlgebra",
    "InDomainTheft",
    "Jacobian",
    "Knockoff",
    "QueryChooser",
    "RandomPool",
    "Recovery",
    "SemiSupervised",
    "StolenAnswers",
    "Strategy",
    "Theft",
    "WalkedPool",
    "recover_head",
]
