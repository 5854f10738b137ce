"""How far a denoised scan may be believed: what its noise and its denoiser do to every number, measured on the scan."""

from pipeline.trust.burden import BURDEN_COLUMNS, burden_changes, burden_table
from pipeline.trust.calibration import TrustCalibration, read_calibration
from pipeline.trust.domain import Domain, DoseReading, domain_of
from pipeline.trust.evidence import EVIDENCE_COLUMNS, Evidence, evidence_of_change
from pipeline.trust.noise_model import ScanNoise, scan_noise
from pipeline.trust.regions import RegionTrust, TrustedValue, measured_regions
from pipeline.trust.repeats import REPEAT_COLUMNS, RepeatableScan, Repeats, repeat_scan, repeatable_scan
from pipeline.trust.scan import TRUST_COLUMNS, ScanTrust, scan_trust
from pipeline.trust.spots import SPOT_COLUMNS, LargestSpot, Spots, spots_of
from pipeline.trust.unfamiliar import style_rows, unfamiliar_noise

__all__ = [
    "BURDEN_COLUMNS",
    "EVIDENCE_COLUMNS",
    "REPEAT_COLUMNS",
    "SPOT_COLUMNS",
    "TRUST_COLUMNS",
    "Domain",
    "DoseReading",
    "Evidence",
    "LargestSpot",
    "RegionTrust",
    "RepeatableScan",
    "Repeats",
    "ScanNoise",
    "ScanTrust",
    "Spots",
    "TrustCalibration",
    "TrustedValue",
    "burden_changes",
    "burden_table",
    "domain_of",
    "evidence_of_change",
    "measured_regions",
    "read_calibration",
    "repeat_scan",
    "repeatable_scan",
    "scan_noise",
    "scan_trust",
    "spots_of",
    "style_rows",
    "unfamiliar_noise",
]
