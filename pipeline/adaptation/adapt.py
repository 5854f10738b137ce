"""Adapt a bundle to a site, step by step; each step keeps what it made, so that a killed run goes on."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.adaptation.judging import AFTER, BEFORE, judge, measured
from pipeline.adaptation.pairs import Pairs, held_out_of, make_pairs, scan_ids
from pipeline.adaptation.protocol import check_full_doses, common_protocol
from pipeline.adaptation.record import RECORD, Adaptation, write_bundle
from pipeline.adaptation.scans import SiteScan, found_scans, patients_of
from pipeline.data import NoiseInsertion, Store
from pipeline.data.store.fingerprints import files_of
from pipeline.errors import PETError, naming
from pipeline.files import locked_folder, new_folder, remove_unfinished, sha256_of, write_json
from pipeline.images import measured_liver_cov
from pipeline.inference import Denoiser, Method
from pipeline.shipped import copy_bundle, own_bundle
from pipeline.simulation import GENERIC, Scanner
from pipeline.training import Deadline, train_bundle
from pipeline.training.time_limit import TimeIsOver
from pipeline.workflow.scan_run import source_sha256

__all__ = ["AdaptationResult", "AdaptationSettings", "adapt"]

_PLAN = "plan.json"


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """How a bundle is adapted."""

    bundle: Path | None = None
    """By default the one that comes along."""
    scanner: Scanner = field(default_factory=lambda: GENERIC)
    """By which noise is inserted: what the scans were made with, or what is nearest."""
    dose_reduction_factors: tuple[float, ...] = (4.0, 10.0, 20.0, 100.0)
    """Doses that noise is inserted for; training mixes all in between."""
    seed: int = 0
    """Of the noise, of who is held out, and of the training."""
    overrides: tuple[tuple[str, Any], ...] = ()
    """Keys and values on top of ``configs/adapt.yaml``."""
    series: str | int | None = None
    """What of each scan of DICOM :func:`pipeline.read_pet` reads; a manifest names the series itself."""
    allow_noisy: bool = False
    """Whether scans may be noisier than a full dose."""
    jobs: int = 2
    """Scans that noise is inserted into at once."""
    device: str | None = None
    """Of training and inference; by default a GPU when there is one."""
    time_limit: float | None = None
    """[s]; then it saves itself and ends, and the next run goes on."""

    def bearing(self) -> dict[str, Any]:
        """Return what the result depends on, as JSON can hold it."""
        return {
            "scanner": asdict(self.scanner),
            "dose_reduction_factors": list(self.dose_reduction_factors),
            "seed": self.seed,
            "overrides": [list(item) for item in self.overrides],
            "allow_noisy": self.allow_noisy,
        }


@dataclass(frozen=True)
class AdaptationResult:
    """Where an adaptation stands."""

    output: Path
    record: Mapping[str, Any] | None = None
    """As in ``adaptation.json``; None while it is not finished."""
    was_finished: bool = False
    """Whether an earlier run had finished it."""
    stopped: str = ""
    """Where the time was over."""

    def __str__(self) -> str:
        if self.record is None:
            return f"not finished ({self.stopped})\nrun the same command again to go on"
        before = "was finished before\n" if self.was_finished else ""
        page = self.output / "adaptation.html"
        return f"{before}{self.record['outcome']}\n{page} says more; use it with --bundle {self.output}"


def adapt(
    sources: Sequence[str | Path],
    output: str | Path,
    settings: AdaptationSettings | None = None,
    *,
    on_step: Callable[[str], object] = lambda step: None,
) -> AdaptationResult:
    """Fine-tune the weights of a bundle on a site's own full-dose scans, and write a bundle that is never worse.

    Noise is inserted into the scans, the weights are trained further on the pairs, and old and new ones are judged on
    scans that were held out: only weights that gain there, and lose nothing, take the place of the old ones. The bundle
    `output` appears complete, with ``adaptation.html``, ``adaptation.json`` and a model card, or not at all. What is
    unfinished lies beside it, in ``OUTPUT.work``; the same call goes on there, wherever it was killed.

    `sources` are 1 to 50 scans, see :func:`~pipeline.adaptation.scans.found_scans`. `on_step` is told what is done.

    Raises
    ------
    PETError
        If a scan cannot be read, is of low dose or of another protocol than the others; noise cannot be inserted; the
        output exists and is something else; or the unfinished work is of other scans or settings.
    """
    settings, output = settings or AdaptationSettings(), Path(output)
    bundle = own_bundle() if settings.bundle is None else settings.bundle
    scans = found_scans(sources, results=output, series=settings.series)
    protocol = common_protocol(scans)
    weights = _weights_of(bundle)
    key = _key_of(scans, settings, sha256_of(bundle / weights))
    work = output.with_name(f"{output.name}.work")
    if (record := _finished(output)) is not None:
        if record.get("key") != key:
            raise PETError(f"{output}: is an adaptation of other scans or settings, expected a new folder")
        shutil.rmtree(work, ignore_errors=True)
        return AdaptationResult(output, record, was_finished=True)
    with naming(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise PETError("exists and is not an empty folder, expected a new one")
    run = _Run(scans, protocol, output, settings, bundle, weights, key, work, on_step)
    try:
        with locked_folder(work, "adapting there"):
            record = run.to_the_end()
    except TimeIsOver as over:
        return AdaptationResult(output, stopped=over.reason)
    shutil.rmtree(work, ignore_errors=True)
    return AdaptationResult(output, record)


@dataclass(frozen=True)
class _Run:
    """One adaptation and where it works."""

    scans: Sequence[SiteScan]
    protocol: Mapping[str, str]
    output: Path
    settings: AdaptationSettings
    bundle: Path
    weights: Path
    """Below the bundle."""
    key: str
    work: Path
    on_step: Callable[[str], object]
    started: float = field(default_factory=time.monotonic)

    def to_the_end(self) -> dict[str, Any]:
        remove_unfinished(self.work)
        deadline = Deadline(self.settings.time_limit, started=self.started)
        measures = self._checked_scans(deadline)
        pairs = self._pairs(deadline)
        trained, training = self._train(pairs, deadline)
        adaptation = self._judged(pairs, measures, trained, training, deadline)
        self.on_step("writing the bundle")
        made = self.work / "bundle"
        shutil.rmtree(made, ignore_errors=True)
        with new_folder(made) as folder:
            write_bundle(adaptation, folder, base=self.bundle, trained=trained, weights=self.weights)
        with naming(self.output):
            made.replace(self.output)  # also onto an empty folder
        return adaptation.as_dict()

    def _checked_scans(self, deadline: Deadline) -> list[dict[str, Any]]:
        """Read every scan once, measure its noise, and refuse low doses; keep what was found."""
        path = self.work / _PLAN
        if path.is_file():
            plan = json.loads(path.read_text(encoding="utf-8"))
            if plan["key"] != self.key:
                raise PETError(
                    f"{self.work}: is of other scans or settings, expected the same; remove it to start anew"
                )
            return plan["scans"]
        held_out = held_out_of(patients_of(self.scans), seed=self.settings.seed)
        found: list[dict[str, Any]] = []
        for index, scan in enumerate(self.scans):
            self.on_step(f"reading scan {index + 1} of {len(self.scans)}")
            series = scan.read()
            with naming(scan.name):
                liver = measured_liver_cov(series)
            digest = source_sha256(series)
            if (twin := next((i for i, f in enumerate(found) if f["source_sha256"] == digest), None)) is not None:
                raise PETError(f"{scan.name}: has the voxels of {self.scans[twin].name}, expected different scans")
            role = "hold out" if held_out[index] else "train"
            found.append(
                {
                    "name": scan_ids(self.scans)[index],
                    "role": "train with one part, hold out the other" if len(self.scans) == 1 else role,
                    "patient": patients_of(self.scans)[index] + 1,
                    "liver_cov": round(liver.noise_cov, 5),
                    "source_sha256": digest,
                    "licence": scan.licence,
                }
            )
            deadline.check("reading", index + 1, len(self.scans) + 1)
        noise = {scan.name: entry["liver_cov"] for scan, entry in zip(self.scans, found, strict=True)}
        check_full_doses(noise, allow_noisy=self.settings.allow_noisy)
        write_json(path, {"key": self.key, "scans": found})
        return found

    def _pairs(self, deadline: Deadline) -> Pairs:
        insertion = NoiseInsertion(
            dose_reduction_factors=self.settings.dose_reduction_factors,
            scanner=self.settings.scanner,
            seed=self.settings.seed,
        )

        def advance(done: int, total: int) -> None:
            self.on_step(f"noise inserted, {done} of {total}")
            deadline.check("inserting noise", done, total + 1)

        jobs, seed = self.settings.jobs, self.settings.seed
        return make_pairs(self.scans, self.work, insertion=insertion, seed=seed, jobs=jobs, progress=advance)

    def _train(self, pairs: Pairs, deadline: Deadline) -> tuple[Path, str]:
        """Return the fine-tuned weights, and the training in one line."""
        self.on_step("training")
        overlay = self.bundle / "configs" / "adapt.yaml"
        if not overlay.is_file():
            raise PETError(f"{overlay}: is missing, expected a bundle of unipet_3d {__version__}")
        stated: list[tuple[str, Any]] = [
            ("manifest", str(pairs.manifest.absolute())),
            ("dataset_dir", str(pairs.root)),
            ("store_dir", str(pairs.store.absolute())),
            ("output_dir", str((self.work / "runs").absolute())),
            ("seed", self.settings.seed),
        ]
        if self.settings.device is not None:
            stated.append(("device", self.settings.device))
        if deadline.seconds is not None:
            stated.append(("time_limit", max(deadline.seconds - (time.monotonic() - self.started), 1e-3)))
        result = train_bundle(self.bundle, [overlay], [*stated, *self.settings.overrides])
        if not result.is_finished:
            raise TimeIsOver(str(result).splitlines()[0].removeprefix("not finished").strip(", ()"))
        return result.model, ", ".join(f"{name} {done} iterations" for name, (done, _) in result.stages.items())

    def _judged(
        self, pairs: Pairs, scans: list[dict[str, Any]], trained: Path, training: str, deadline: Deadline
    ) -> Adaptation:
        candidate, digest = self.work / "candidate", sha256_of(trained)
        shutil.rmtree(candidate, ignore_errors=True)
        with new_folder(candidate) as folder:
            copy_bundle(self.bundle, folder)
            shutil.copyfile(trained, folder / self.weights)
        device = self.settings.device
        denoisers = {
            name: Denoiser.from_bundle(place, device=device)
            for name, place in ((BEFORE, self.bundle), (AFTER, candidate))
        }

        def advance(done: int, total: int) -> None:
            self.on_step(f"judged on {done} of {total} held-out scans")
            deadline.check("judging", done, total)

        found = measured(Store(pairs.store), denoisers, self.work / f"judged-{digest[:16]}", on_scan=advance)
        return Adaptation(
            key=self.key,
            protocol=self.protocol,
            scans=scans,
            settings={**self.settings.bearing(), "scanner": self.settings.scanner.name},
            verdict=judge(found, is_one_scan=len(self.scans) == 1),
            measurements=found,
            sha256_before=sha256_of(self.bundle / self.weights),
            sha256_trained=digest,
            training=training,
        )


def _weights_of(bundle: Path) -> Path:
    """Return the place of the weights below a bundle."""
    path = Path(Method(bundle, "unipet")["weights"])
    if not path.is_file():
        raise PETError(f"{path}: the weights do not exist, expected those to fine-tune")
    return path.relative_to(bundle)


def _finished(output: Path) -> dict[str, Any] | None:
    """Return the record of an earlier run that finished."""
    try:
        return dict(json.loads((output / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _key_of(scans: Sequence[SiteScan], settings: AdaptationSettings, weights_sha256: str) -> str:
    """Return a digest of all that the result depends on: files by path, size and time, settings, weights, version."""
    files = [
        [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
        for scan in scans
        for part in scan.subject.files()
        for file in files_of(scan.root / part.path)
    ]
    named = [image.series for scan in scans for image in scan.subject.images if image.series is not None]
    content = [files, settings.bearing(), weights_sha256, __version__, *([named] if named else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
