"""The report: findings and what they rest on, as HTML for people, JSON for programs, JUnit for pipelines."""

from attacks.report.files import save
from attacks.report.record import Provenance, Report, TwinFacts

__all__ = ["Provenance", "Report", "TwinFacts", "save"]
