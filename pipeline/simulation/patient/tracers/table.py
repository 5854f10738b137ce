"""What the tables of all tracers share: sources of values that no publication gives, and how a table is written."""

from collections.abc import Mapping

from pipeline.simulation.patient.uptake import OrganUptake

__all__ = ["CUSTOMARY", "NOT_SEEN", "URINE", "organs"]

CUSTOMARY = "customary reading-room value, not traced to one publication"
"""Source of a value that readers know."""
NOT_SEEN = "customary: at or below background, not traced to one publication"
"""Source of a value that is too small to be read."""
URINE = "customary: varies with hydration and voiding, not traced to one publication"
"""Source of a value of urine."""


def organs(**values: tuple[float, float] | OrganUptake) -> Mapping[str, OrganUptake]:
    """Return a table of organs; a pair of mean and standard deviation is a customary value."""
    return {k: v if isinstance(v, OrganUptake) else OrganUptake(*v, source=CUSTOMARY) for k, v in values.items()}
