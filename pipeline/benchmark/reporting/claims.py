"""The claims of the literature, answered from what was measured: yes, no or cannot tell, with figures, intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.benchmark.reporting.findings import Findings
from pipeline.comparison import COMPARED, Interval, Measurements, paired_difference

__all__ = ["CLAIMS", "ClaimLine", "answer_claims", "claim_frame"]

MEASURES: dict[str, tuple[str, bool]] = {
    "psnr_noise_free": COMPARED["psnr_noise_free"],
    "psnr_full": COMPARED["psnr_full"],
    "suv_mean_error_percent": COMPARED["suv_mean_error_percent"],
    "texture_error": ("error of texture, |log of the local variance over that of full dose|", False),
    "coverage_error": ("how far the coverage of intervals of 95 % in the body is from 95 [points]", False),
    "rank_correlation": ("rank correlation of stated and true errors in the body", True),
    "detection_gain": ("area under the ROC of the observer, less that of the noisy input", True),
}
"""Measure -> what it is called, and whether more of it is better."""

_OF_IMAGES = ("psnr_noise_free", "psnr_full", "suv_mean_error_percent", "texture_error")
_MEASURES_OF = {"uncertainty": ("coverage_error", "rank_correlation"), "detection": ("detection_gain",)}
_UNIPET = "UniPET, arXiv 2606.11131"
_RESIDUAL = "residual noise learning, arXiv 2604.16925"
_DDPM = "3D DDPM, Yu et al., EJNMMI 2025"
_DETECTION = "denied by Yu and Jha, mp.16407, and Li 2021, PMC8673589"


@dataclass(frozen=True)
class Claim:
    """That one method is better than another."""

    text: str
    source: str
    method: str
    """Entry of the definition."""
    other: str
    part: str = "images"
    conditions: tuple[str, ...] | None = None
    other_kind: str = "network"
    """Or ``ensemble``, that of the other's seeds."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Keys of MEASURES: the first answers the claim, the others stand beside it."""
        return _MEASURES_OF.get(self.part, _OF_IMAGES)


CLAIMS: tuple[Claim, ...] = (
    Claim("UniPET is better than one universal U-Net", _UNIPET, "unipet", "unet"),
    Claim("UniPET is better than the networks of one dose, at their own doses", _UNIPET, "unipet", "unet_specific"),
    Claim("style alignment alone helps", _UNIPET, "unipet", "unipet_no_style"),
    Claim("region-aware adversarial learning alone helps", _UNIPET, "unipet", "unipet_no_adversarial"),
    Claim("UniPET is better at unseen doses than one universal U-Net", _UNIPET, "unipet", "unet", "unseen", ("doses",)),
    Claim(
        *("UniPET is better at unseen doses than the networks of one dose", _UNIPET, "unipet", "unet_specific"),
        *("unseen", ("doses",)),
    ),
    Claim("UniPET as shipped is better than a residual U-Net of its budget", _UNIPET, "shipped", "unet_residual_large"),
    Claim(
        *("UniPET as shipped is better at unseen doses than a residual U-Net of its budget", _UNIPET, "shipped"),
        *("unet_residual_large", "unseen"),
        conditions=("doses",),
    ),
    Claim(
        *("UniPET as shipped is better on an unseen scanner and tracers than a residual U-Net of its budget", _UNIPET),
        *("shipped", "unet_residual_large", "unseen"),
        conditions=("scanner", "tracers"),
    ),
    Claim("to predict the noise is better than to predict the image", _RESIDUAL, "unet_residual", "unet"),
    Claim("one residual U-Net is better than the networks of one dose", _RESIDUAL, "unet_residual", "unet_specific"),
    Claim("one residual U-Net is better than one told the dose", _RESIDUAL, "unet_residual", "unet_conditioned"),
    Claim("the 3D DDPM is better than the 2D DDPM", _DDPM, "ddpm3d", "ddpm2d"),
    Claim("the 3D DDPM is better than the 3D U-Net", _DDPM, "ddpm3d", "unet"),
    Claim("the 3D DDPM is better than the 3D GAN", _DDPM, "ddpm3d", "gan3d"),
    Claim("the 3D DDPM knows its errors better than the 2D DDPM", _DDPM, "ddpm3d", "ddpm2d", "uncertainty"),
    Claim(
        *("the 3D DDPM knows its errors better than an ensemble of 3D U-Nets", _DDPM, "ddpm3d", "unet", "uncertainty"),
        other_kind="ensemble",
    ),
    Claim(
        *("the 3D DDPM knows its errors better than what the 3D GAN took away tells", _DDPM, "ddpm3d", "gan3d"),
        part="uncertainty",
    ),
    *(
        Claim(f"lesions are detected better after {name} than before", _DETECTION, name, "input", "detection")
        for name in ("unipet", "unet", "unet_residual", "gan3d", "ddpm3d", "flow3d")
    ),
)


@dataclass(frozen=True)
class ClaimLine:
    """One measure of one claim."""

    claim: Claim
    measure: str
    doses: str
    """``all``, or such as DRF 4."""
    seed: int
    """Of both methods."""
    interval: Interval | None
    """Method minus other, mean and 95 % interval; None where it was not measured."""

    @property
    def answer(self) -> str:
        """``yes`` where the interval excludes zero as claimed, ``no`` where it does in the other direction."""
        if self.interval is None:
            return "not measured"
        if not self.interval.excludes_zero:
            return "cannot tell"
        return "yes" if (self.interval.mean > 0) == MEASURES[self.measure][1] else "no"


def answer_claims(findings: Findings, claims: Sequence[Claim] = CLAIMS) -> list[ClaimLine]:
    """Return the lines of every claim: each measure over all doses and at each dose, with each seed that both have."""
    return [line for claim in claims for line in _lines_of(claim, findings)]


def _lines_of(claim: Claim, findings: Findings) -> Iterator[ClaimLine]:
    if claim.part == "detection":
        yield from _detected(claim, findings)
        return
    if claim.part == "uncertainty":
        measurements = findings.intervals
    else:
        measurements = findings.measurements(claim.part, claim.conditions)
    rows = findings.rows[findings.rows["dose"] != "read"]
    pairs = []
    for seed in sorted(set(rows["seed"])):
        own = rows.index[(rows["entry"] == claim.method) & (rows["kind"] == "network") & (rows["seed"] == seed)]
        other = rows.index[(rows["entry"] == claim.other) & (rows["kind"] == claim.other_kind) & (rows["seed"] == seed)]
        if len(own) and len(other):
            pairs.append((seed, str(own[0]), str(other[0])))
    if measurements is None or not pairs:
        yield from (ClaimLine(claim, measure, "all", 0, None) for measure in claim.measures)
        return
    for seed, method, other in pairs:
        yield from _compared(claim, measurements, method, other, int(seed))


def _detected(claim: Claim, findings: Findings) -> Iterator[ClaimLine]:
    """Yield the gain on the noisy input at each dose, and their mean.

    The intervals of the doses share their patients. That of the mean is the mean of theirs, which is at least as wide
    as it must be.
    """
    table = findings.detection
    own = table[table["method"] == claim.method] if "gain" in table else table.iloc[:0]
    if own.empty:
        yield ClaimLine(claim, "detection_gain", "all", 0, None)
        return
    figures = own[["gain", "gain_low", "gain_high"]]
    yield ClaimLine(claim, "detection_gain", "all", 0, Interval(*map(float, figures.mean())))
    for factor, (mean, low, high) in zip(own["dose_reduction_factor"], figures.to_numpy(), strict=True):
        yield ClaimLine(claim, "detection_gain", f"DRF {factor:g}", 0, Interval(mean, low, high))


def _compared(claim: Claim, measurements: Measurements, method: str, other: str, seed: int) -> Iterator[ClaimLine]:
    factors = sorted(measurements.scans["dose_reduction_factor"].unique())
    doses = {"all": factors} | {f"DRF {factor:g}": [factor] for factor in factors}
    for measure in claim.measures:
        for name, chosen in doses.items():
            interval = paired_difference(measurements, measure, method, other, factors=chosen)
            yield ClaimLine(claim, measure, name, seed, interval)


def claim_frame(lines: Sequence[ClaimLine]) -> pd.DataFrame:
    """Return the lines of claims as a table."""
    nan = float("nan")
    return pd.DataFrame(
        [
            {
                "claim": line.claim.text,
                "source": line.claim.source,
                "method": line.claim.method,
                "other": line.claim.other,
                "part": line.claim.part,
                "measure": MEASURES[line.measure][0],
                "doses": line.doses,
                "seed": line.seed,
                "answer": line.answer,
                "difference": nan if line.interval is None else line.interval.mean,
                "low": nan if line.interval is None else line.interval.low,
                "high": nan if line.interval is None else line.interval.high,
            }
            for line in lines
        ]
    )
