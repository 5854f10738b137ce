"""The scans of a site: from folders, files, manifests and BIDS data sets to a list, each with what its header says."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet

from pipeline.data import build_manifest, described_data, find_scans, read_image
from pipeline.data.building.exclusions import without_excluded
from pipeline.data.building.headers import ImageHeader, read_image_header
from pipeline.data.manifest import Image, Manifest, Subject
from pipeline.errors import NoSuchSeriesError, PETError, naming
from pipeline.pet import PETSeries
from pipeline.pet.nifti import check_is_full_dose

__all__ = ["MOST_SCANS", "SiteScan", "found_scans", "patients_of"]

MOST_SCANS = 50
"""More scans are a training of their own: `unipet train`."""


@dataclass(frozen=True)
class SiteScan:
    """One full-dose scan of a site."""

    name: str
    """What messages on the screen call it; may name a patient, so that no file holds it."""
    subject: Subject
    """Its files, with paths relative to `root`."""
    root: Path
    header: ImageHeader
    """Of the full dose."""
    licence: str = ""
    """Name of the data set's licence, where a manifest states it."""

    @property
    def path(self) -> Path:
        """File or folder of the full dose."""
        return self.root / self.subject.full_dose.path

    @property
    def place(self) -> tuple[Path, str | int | None]:
        """What tells it from another scan: path of the full dose, and the series where one is named."""
        return self.path.resolve(), self.subject.full_dose.series

    def read(self) -> PETSeries:
        """Read the full dose as SUVbw."""
        with naming(self.name):
            return read_image(self.subject.full_dose, self.root)


def found_scans(sources: Sequence[str | Path], *, results: Path, series: str | int | None = None) -> list[SiteScan]:
    """Return the full-dose scans of a site in the order given, with their headers.

    A source is a folder of DICOM slices or of such folders, an archive or a DICOMDIR, a PET volume with its sidecar or
    a folder of them, a BIDS data set, or a manifest. What lies in `results` is no scan. `series` is what of each scan
    of DICOM `read_pet` reads; in a folder of scans those without it are left out. A manifest names the series itself.

    Raises
    ------
    PETError
        If a source holds no scan, a scan cannot be read, is not of full dose or stands twice, there are more than
        `MOST_SCANS`, or the results lie inside a source.
    """
    for source in map(Path, sources):
        if source.is_dir() and results.resolve().is_relative_to(source.resolve()):
            raise PETError(f"{results}: lies inside the scans {source}, expected a folder elsewhere")
    scans: list[SiteScan] = []
    for source in map(Path, sources):
        described = list(_described(source, results, series))
        if len(scans) + len(described) > MOST_SCANS:
            raise PETError(
                f"{len(scans) + len(described)} scans or more, expected 1 to {MOST_SCANS}; "
                "unipet prepare and unipet train take any number"
            )
        for name, subject, root, licence in described:
            with naming(name):
                full = subject.full_dose
                check_is_full_dose(root / full.path)
                header = read_image_header(root / full.path, sidecar=full.sidecar, series=full.series)
            scans.append(SiteScan(name, subject, root, header, licence))
    if not scans:
        raise PETError(f"no scan was given, expected 1 to {MOST_SCANS} full-dose scans")
    places = Counter(scan.place for scan in scans)
    if twice := next((scan for scan in scans if places[scan.place] > 1), None):
        raise PETError(f"{twice.name}: was given twice, expected every scan once")
    return scans


def _described(source: Path, results: Path, series: str | int | None) -> Iterator[tuple[str, Subject, Path, str]]:
    """Yield name, subject, root and licence of every scan of a source, before its header is read."""
    if not source.exists():
        raise PETError(f"{source}: no such file or folder")
    is_manifest = source.suffix.lower() in (".yaml", ".yml")
    if series is not None and (is_manifest or (source.is_dir() and _is_bids(source))):
        raise PETError(f"{source}: --series {series} was given for a data set, expected a choice for DICOM only")
    if is_manifest:
        manifest, root = described_data(source)
        yield from _of_manifest(manifest, source, root)
    elif source.is_dir() and _is_bids(source):
        yield from _of_manifest(build_manifest("bids_pet", source), source, source)
    else:
        for path in _with_series(source, results, series) if source.is_dir() else [source]:
            image = Image(path=path.name, series=series)
            yield str(path), Subject(id="scan", patient=str(path), split="train", images=(image,)), path.parent, ""


def _with_series(folder: Path, results: Path, series: str | int | None) -> list[Path]:
    """Return the scans below a folder, of DICOM those that have a series, if one is asked for."""
    paths = [Path(path) for path in find_scans(folder, results=results)]
    if series is None:
        return paths
    kept, refusal = [], None
    for path in paths:
        try:
            read_image_header(path, series=series)
        except NoSuchSeriesError as error:
            refusal = refusal or error
        except PETError:
            kept.append(path)  # whose own refusal says more
        else:
            kept.append(path)
    if refusal is not None and not kept:
        raise refusal
    return kept


def _is_bids(folder: Path) -> bool:
    is_subject = folder.resolve().name.startswith("sub-")
    return (
        is_subject or (folder / "dataset_description.json").is_file() or any(p.is_dir() for p in folder.glob("sub-*"))
    )


def _of_manifest(manifest: Manifest, source: Path, root: Path) -> Iterator[tuple[str, Subject, Path, str]]:
    """Yield the subjects of a manifest; one whose full dose could not be read must not be missing in silence."""
    subjects = without_excluded(manifest)
    kept = {subject.id for subject in subjects}
    if broken := next((e for e in manifest.exclusions if e.is_whole and e.subject not in kept), None):
        raise PETError(f"{source}: {broken.subject} cannot be used ({broken.reason}), expected usable scans only")
    for subject in subjects:
        yield f"{source}: {subject.id}", subject, root, manifest.licence.name


def patients_of(scans: Iterable[SiteScan]) -> list[int]:
    """Return the number of each scan's patient: scans share one that have a name or a DICOM identifier in common."""
    scans = list(scans)
    same = DisjointSet()
    for scan in scans:
        named = (str(scan.root), scan.subject.patient)
        same.add(named)
        for identity in scan.header.identities:
            same.add(identity)
            same.merge(named, identity)
    roots = [same[(str(scan.root), scan.subject.patient)] for scan in scans]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    return [numbers[root] for root in roots]
