"""Scans and methods of a second or less."""

from tests.workflow.conftest import body_series, identity, scan

__all__ = ["body_series", "identity", "scan"]
