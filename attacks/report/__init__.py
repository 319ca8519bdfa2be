"""The report: findings and what they rest on, as HTML for people, JSON for programs, JUnit for pipelines."""

from medward.attacks.report.files import save_report
from medward.attacks.validation.record import Provenance, Report, TwinFacts

__all__ = ["Provenance", "Report", "TwinFacts", "save_report"]
