"""Stealing a model that writes reports, by its texts: strategies for `attacks.extraction.Theft` with labels = text."""

from medward.attacks.extraction.reports.ada_steal import AdaSteal
from medward.attacks.extraction.reports.causal_oracle import CausalOracle
from medward.attacks.extraction.reports.clone import ReportClone
from medward.attacks.extraction.reports.distillation import TextDistillation
from medward.attacks.extraction.reports.enrichment import Recombination, ReportOracle, SameReports
from medward.attacks.extraction.reports.lord import ComparingTheft
from medward.attacks.extraction.reports.student import FolderStudent, SmallStudent, StudentMaker, TextStudent

__all__ = [
    "AdaSteal",
    "CausalOracle",
    "ComparingTheft",
    "FolderStudent",
    "Recombination",
    "ReportClone",
    "ReportOracle",
    "SameReports",
    "SmallStudent",
    "StudentMaker",
    "TextDistillation",
    "TextStudent",
]
