"""Paired multi-dose PET from physics: phantom, scanner, counts, thinning, reconstruction. numpy and scipy only."""

from pipeline.simulation.attenuation import attenuation_from_body, attenuation_from_ct
from pipeline.simulation.cohort import simulate_cohort
from pipeline.simulation.ct import attenuation_of_series
from pipeline.simulation.field_of_view import scanner_of
from pipeline.simulation.low_dose import DOSE_MODES, DoseMode, check_dose_reduction_factors, thin
from pipeline.simulation.noise_insertion import (
    FullDoseScan,
    InsertionSettings,
    full_dose_scan,
    insert_noise,
)
from pipeline.simulation.patient.nema import NEMAPhantom, NEMAQuality, nema_phantom, nema_quality
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom, make_phantom
from pipeline.simulation.patient.tracers.dotatate import DOTATATE
from pipeline.simulation.patient.tracers.fapi import FAPI
from pipeline.simulation.patient.tracers.fdg import FDG
from pipeline.simulation.patient.tracers.flt import FLT
from pipeline.simulation.patient.tracers.fluoride import FLUORIDE
from pipeline.simulation.patient.tracers.known import TRACERS, tracer_named
from pipeline.simulation.patient.tracers.psma_11 import PSMA_11
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer
from pipeline.simulation.scanner.acquisition import Acquisition
from pipeline.simulation.scanner.ge import DISCOVERY_MI, DISCOVERY_ST
from pipeline.simulation.scanner.presets import GENERIC, GENERIC_TOF, SCANNERS, UEXPLORER, scanner_preset
from pipeline.simulation.scanner.projector import strip_matrix
from pipeline.simulation.scanner.reconstruction import SystemModel, system_model
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.scanner.siemens import MCT, QUADRA
from pipeline.simulation.series_scan import SeriesScan, low_dose_of, scan_of_series
from pipeline.simulation.subject import DEFAULT_DOSE_REDUCTION_FACTORS, SimulatedSubject, simulate_subject
from pipeline.simulation.subject_folder import write_subject

__all__ = [
    "DEFAULT_DOSE_REDUCTION_FACTORS",
    "DISCOVERY_MI",
    "DISCOVERY_ST",
    "DOSE_MODES",
    "DOTATATE",
    "FAPI",
    "FDG",
    "FLT",
    "FLUORIDE",
    "GENERIC",
    "GENERIC_TOF",
    "MCT",
    "ORGAN_LABELS",
    "PSMA_11",
    "QUADRA",
    "SCANNERS",
    "TRACERS",
    "UEXPLORER",
    "Acquisition",
    "DoseMode",
    "FullDoseScan",
    "InsertionSettings",
    "LesionSite",
    "NEMAPhantom",
    "NEMAQuality",
    "OrganUptake",
    "Phantom",
    "Scanner",
    "SeriesScan",
    "SimulatedSubject",
    "SystemModel",
    "Tracer",
    "attenuation_from_body",
    "attenuation_from_ct",
    "attenuation_of_series",
    "check_dose_reduction_factors",
    "full_dose_scan",
    "insert_noise",
    "low_dose_of",
    "make_phantom",
    "nema_phantom",
    "nema_quality",
    "scan_of_series",
    "scanner_of",
    "scanner_preset",
    "simulate_cohort",
    "simulate_subject",
    "strip_matrix",
    "system_model",
    "thin",
    "tracer_named",
    "write_subject",
]
