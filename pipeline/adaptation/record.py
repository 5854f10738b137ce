"""What an adaptation leaves: a bundle with weights, model card, page and record, none of which names a patient."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.adaptation.judging import Criterion, Verdict, gains_of
from pipeline.comparison import Measurements, as_markdown, result_tables
from pipeline.files import write_json, write_text
from pipeline.report import write_adaptation_page
from pipeline.shipped import copy_bundle

__all__ = ["RECORD", "Adaptation", "write_bundle"]

RECORD = "adaptation.json"
_METHODS = ("before", "after")
_CARD = "docs/README.md"
_OLD_CARD = "docs/model_card_before.md"


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Everything about a finished adaptation."""

    key: str
    """SHA-256 of the scans and settings."""
    protocol: Mapping[str, str]
    scans: Sequence[Mapping[str, Any]]
    """Of each scan: name, role, liver_cov, source_sha256, licence."""
    settings: Mapping[str, Any]
    """What it was done by, as JSON can hold it."""
    verdict: Verdict
    measurements: Measurements
    sha256_before: str
    """Of the weights."""
    sha256_trained: str
    """Of the fine-tuned weights, kept or not."""
    training: str
    """In one line."""

    @property
    def outcome(self) -> str:
        """One sentence that says what became of the weights."""
        n, gain = len(gains_of(self.measurements)), self.verdict.gain
        what = f"{gain:+.2f} dB of PSNR in the mean of {n} held-out scan{'s' * (n > 1)} and all doses"
        if self.verdict.is_kept:
            return f"The fine-tuned weights are kept: {what}."
        missed = "; ".join(c.what for c in self.verdict.criteria if not c.met)
        return f"The old weights are kept, byte for byte. The fine-tuned ones: {what}; missed: {missed}."

    @property
    def limits(self) -> list[str]:
        """What the figures cannot show, a sentence each."""
        said = [
            "The full dose is the reference, noise and all; the lower doses are noise inserted into it.",
            "The held-out scans also chose the epoch, by another draw of the noise: the gain is a little optimistic.",
        ]
        n = len(gains_of(self.measurements))
        if len(self.scans) == 1:
            said.append(
                "One scan alone: it was cut across, trained on with one part and judged by the other. Both are of one "
                "patient and one acquisition. Whether other patients gain, and what happens in regions that only the "
                "held-out part has, one scan cannot show."
            )
        elif n < 3:
            said.append(f"{n} held-out scan{'s' * (n > 1)}: too few for an interval that would mean something.")
        if len({scan["patient"] for scan in self.scans}) == 1 < len(self.scans):
            said.append("All scans are of one patient: whether others gain, they cannot show.")
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return the record, as JSON can hold it."""
        interval = self.verdict.interval
        return {
            "unipet_3d": __version__,
            "key": self.key,
            "fine_tuned_weights_kept": self.verdict.is_kept,
            "outcome": self.outcome,
            "limits": self.limits,
            "gain_db": _finite(self.verdict.gain),
            "gain_interval_db": None if interval is None else [_finite(interval.low), _finite(interval.high)],
            "criteria": [_plain(criterion) for criterion in self.verdict.criteria],
            "weights_sha256_before": self.sha256_before,
            "weights_sha256_fine_tuned": self.sha256_trained,
            "weights_sha256_after": self.sha256_trained if self.verdict.is_kept else self.sha256_before,
            "protocol": dict(self.protocol),
            "scans": [dict(scan) for scan in self.scans],
            "settings": dict(self.settings),
            "training": self.training,
        }


def write_bundle(adaptation: Adaptation, folder: Path, *, base: Path, trained: Path, weights: Path) -> None:
    """Write the bundle of an adaptation into an empty folder.

    `base` is the bundle that was adapted, `trained` the file of the fine-tuned weights, and `weights` the place of the
    weights below a bundle. Where the old weights are kept, their file is copied, byte for byte.
    """
    copy_bundle(base, folder)
    if adaptation.verdict.is_kept:
        shutil.copyfile(trained, folder / weights)
        _restate_data(folder / "configs" / "metadata.json", n_scans=len(adaptation.scans))
    (folder / "docs").mkdir(exist_ok=True)
    if (folder / _CARD).is_file():
        (folder / _CARD).rename(folder / _OLD_CARD)
    write_text(folder / _CARD, _model_card(adaptation))
    tables = result_tables(adaptation.measurements, _METHODS)
    write_adaptation_page(
        folder / "adaptation.html",
        outcome=adaptation.outcome,
        limits=adaptation.limits,
        criteria=[asdict(criterion) for criterion in adaptation.verdict.criteria],
        gains=gains_of(adaptation.measurements),
        tables=[asdict(table) for table in tables],
        scans=adaptation.scans,
        run=_shown(adaptation),
    )
    write_json(folder / RECORD, adaptation.as_dict())


def _restate_data(path: Path, *, n_scans: int) -> None:
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        said = [content.get("data_source", ""), f"fine-tuned on {n_scans} scans of one site"]
        content["data_source"] = "; ".join(filter(None, said))
        write_json(path, content)


def _shown(adaptation: Adaptation) -> dict[str, str]:
    record = adaptation.as_dict()
    lines = {f"protocol, {field}": value for field, value in adaptation.protocol.items()}
    lines |= {f"setting, {name}": str(value) for name, value in adaptation.settings.items()}
    names = ("weights_sha256_before", "weights_sha256_fine_tuned", "weights_sha256_after", "training", "unipet_3d")
    return {**lines, **{name.replace("_", " "): record[name] for name in names}}


def _model_card(adaptation: Adaptation) -> str:
    scans = "\n".join(
        f"| {scan['name']} | {scan['role']} | {100 * scan['liver_cov']:.1f} | {scan['licence'] or 'not stated'} "
        f"| `{scan['source_sha256'][:16]}` |"
        for scan in adaptation.scans
    )
    criteria = "\n".join(
        f"| {c.what} | {_text(c.before)} | {_text(c.after)} | {c.demand} | {'yes' if c.met else '**no**'} |"
        for c in adaptation.verdict.criteria
    )
    facts = "\n".join(f"- {name}: {value}" for name, value in _shown(adaptation).items())
    tables = as_markdown(result_tables(adaptation.measurements, _METHODS))
    limits = "\n".join(f"- {sentence}" for sentence in adaptation.limits)
    old = f" The card of the weights before: [{Path(_OLD_CARD).name}]({Path(_OLD_CARD).name})."
    return f"""# Model card: weights adapted to a site by unipet_3d {__version__}

{adaptation.outcome}{old}

For research use on scans of this protocol; not a medical device.

{limits}

## Recipe

`unipet adapt` inserts noise into the site's full doses, fine-tunes the weights on the pairs by `configs/adapt.yaml` on
top of `configs/train.yaml`, and judges old and new weights on scans that they were not fine-tuned on.

{facts}

## Scans

| scan | used to | noise of the liver, CoV [%] | licence | SHA-256 of the voxels |
|---|---|---:|---|---|
{scans}

## Licences

Code, configurations and the weights before: the file LICENSE. What the licence or the consent of the scans says of
weights that were trained on them, whoever passes this bundle on must know; this program does not.

## What was demanded

| measure on the held-out scans | before | after | demand | met |
|---|---:|---:|---|---|
{criteria}

## Before and after

{tables}"""


def _plain(criterion: Criterion) -> dict[str, Any]:
    return {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(criterion).items()}


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _text(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""
