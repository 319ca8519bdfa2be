"""Aggregation rules, one a file, and the table of their names."""

from medward.guard.federated.rules.base import Rule
from medward.guard.federated.rules.bucketing import Bucketing
from medward.guard.federated.rules.bulyan import Bulyan
from medward.guard.federated.rules.centred_clipping import CentredClipping
from medward.guard.federated.rules.coordinate_median import CoordinateMedian
from medward.guard.federated.rules.divide_and_conquer import DivideAndConquer
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.foolsgold import FoolsGold
from medward.guard.federated.rules.geometric_median import GeometricMedian
from medward.guard.federated.rules.krum import Krum, MultiKrum
from medward.guard.federated.rules.norm_clipped_mean import NormClippedMean
from medward.guard.federated.rules.trimmed_mean import TrimmedMean
from medward.guard.federated.rules.weighted_mean import WeightedMean

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        WeightedMean,
        NormClippedMean,
        CoordinateMedian,
        TrimmedMean,
        Krum,
        MultiKrum,
        Bulyan,
        GeometricMedian,
        CentredClipping,
        FoolsGold,
        FLTrust,
        DivideAndConquer,
        Bucketing,
    )
}
