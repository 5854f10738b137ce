"""Paired multi-dose PET from physics: phantom, scanner, counts, thinning, reconstruction. numpy and scipy only."""

from pipeline.simulation.cohort import simulate_cohort, write_subject
from pipeline.simulation.low_dose import thin
from pipeline.simulation.organs import ORGAN_LABELS
from pipeline.simulation.phantom import Phantom, make_phantom
from pipeline.simulation.projector import strip_matrix
from pipeline.simulation.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner import DISCOVERY_ST, GENERIC, GENERIC_TOF, Scanner, scanner_preset
from pipeline.simulation.subject import DEFAULT_DOSE_REDUCTION_FACTORS, SimulatedSubject, simulate_subject
from pipeline.simulation.tracers import FDG, OrganUptake

__all__ = [
    "DEFAULT_DOSE_REDUCTION_FACTORS",
    "DISCOVERY_ST",
    "FDG",
    "GENERIC",
    "GENERIC_TOF",
    "ORGAN_LABELS",
    "OrganUptake",
    "Phantom",
    "Scanner",
    "SimulatedSubject",
    "SystemModel",
    "make_phantom",
    "scanner_preset",
    "simulate_cohort",
    "simulate_subject",
    "strip_matrix",
    "system_model",
    "thin",
    "write_subject",
]
