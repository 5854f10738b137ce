"""The parts on images: held-out subjects, unseen conditions, real scans with inserted noise, and samples to look at."""

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.definition import RealScan, Samples
from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Case, Measurements, Method, evaluate_methods, state_of, with_dose
from pipeline.data import NoiseInsertion
from pipeline.data.manifest import Image, Subject
from pipeline.errors import PETError
from pipeline.files import new_folder
from pipeline.images.projections import center_of_activity, maximum_projection, plane
from pipeline.pet import read_pet, write_nifti
from pipeline.simulation import scanner_preset

__all__ = ["SAMPLE_WINDOW", "grey_image", "images", "real", "real_case", "sampled_case", "samples", "unseen"]

SAMPLE_WINDOW = (0.0, 7.0)
"""SUV [g/mL] of the darkest and the brightest value of a sample."""


def images(name: str, method: Method, work: Work) -> Tables:
    """Measure a method on the held-out subjects at doses that were trained on."""
    return _of_conditions(name, method, work, {c: work.cases(s) for c, s in work.definition.images.items()})


def unseen(name: str, method: Method, work: Work) -> Tables:
    """Measure a method on the subjects of conditions outside of the training."""
    return _of_conditions(name, method, work, {c: work.cases(s) for c, s in work.definition.unseen.items()})


def real(name: str, method: Method, work: Work) -> Tables:
    """Measure a method on real scans with inserted noise; scans that are not there are said and left out."""
    cases = {}
    for condition, scan in work.definition.real.items():
        place = Path(scan.path) if work.scans is None else work.scans / scan.path
        if not place.exists():
            where = "" if work.scans is not None else ", no folder of real scans was named"
            work.say(f"real scan {condition} is left out: {place} does not exist{where}")
            continue
        cases[condition] = [real_case(condition, scan, place, work.folder / "real")]
    return _of_conditions(name, method, work, cases)


def _of_conditions(name: str, method: Method, work: Work, conditions: Mapping[str, list[Case]]) -> Tables:
    tables: Tables = {"scans": [], "lesions": []}
    for condition, cases in conditions.items():
        found: Measurements = evaluate_methods(
            cases, {name: method}, competitors=None, kept=work.kept, jobs=work.jobs, on_case=work.on_case
        )
        which = {"condition": condition, "truth": found.truth, "regions": found.regions}
        for table, frame in (("scans", found.scans), ("lesions", found.lesions)):
            rows = frame.drop(columns="method").to_dict("records")
            tables[table] += [which | {str(key): value for key, value in row.items()} for row in rows]
    return tables


def real_case(name: str, scan: RealScan, place: Path, folder: Path) -> Case:
    """Return a real scan with its lower doses, which are made once and lie below `folder`.

    Raises
    ------
    PETError
        If the scan cannot be read as SUV, noise cannot be inserted, or the folder cannot be written.
    """
    depends = f"{place.resolve()} {scan.model_dump_json(exclude={'path'})}"
    target = folder / f"{name}_{hashlib.sha256(depends.encode()).hexdigest()[:12]}"
    factors = sorted(scan.dose_reduction_factors)
    paths = {1.0: "full_pet.nii.gz"} | {factor: f"drf{factor:g}_pet.nii.gz" for factor in factors}
    if not target.exists():
        full = read_pet(place)
        insertion = NoiseInsertion(
            dose_reduction_factors=tuple(factors), scanner=scanner_preset(scan.scanner), seed=scan.seed
        )
        try:
            low = dict(insertion.low_doses(full, name, attenuation=None))
        except PETError as error:
            raise PETError(f"{place}: {error}") from error
        folder.mkdir(parents=True, exist_ok=True)
        with new_folder(target) as temporary:
            for factor, series in {1.0: full, **low}.items():
                write_nifti(series, temporary / paths[factor], extra={"DoseReductionFactor": factor})
    images_of = [Image(path=path, dose_reduction_factor=factor) for factor, path in paths.items()]
    return Case(name, Subject(id=name, patient=name, split="test", images=tuple(images_of)), target)


def samples(name: str, method: Method, work: Work) -> Tables:
    """Return what the page shows of a method: a coronal projection and a coronal plane of one scan.

    The rows of the input hold those of the full dose and of the noise-free image as well.
    """
    wanted = work.definition.samples
    if wanted is None:
        return {}
    case, factor = sampled_case(wanted, work)
    make = partial(_sample, name, method, case, factor)
    piece = Piece(depends=[*state_of(case), factor, SAMPLE_WINDOW], make=make)
    return work.tables(name, {"samples": piece}, code=("benchmark/parts/images",))


def sampled_case(wanted: Samples, work: Work) -> tuple[Case, float]:
    """Return the subject of the samples and its dose reduction factor.

    Raises
    ------
    PETError
        If there is no such subject of images, or it has no such scan.
    """
    cases = work.cases(next(iter(work.definition.images.values())))
    if wanted.subject >= len(cases):
        raise PETError(f"samples: subject {wanted.subject} was asked for, expected one of {len(cases)} from 0")
    case = cases[wanted.subject]
    doses = list(case.doses)
    if not doses:
        raise PETError(f"{case.name}: has no scan of a lower dose, expected one for the samples")
    factor = wanted.dose_reduction_factor or doses[len(doses) // 2]
    if factor not in doses:
        raise PETError(f"{case.name}: has no scan of DRF {factor:g}, expected it for the samples")
    return case, factor


def _sample(name: str, method: Method, case: Case, factor: float) -> Tables:
    full, low = case.full_dose(), case.read(case.doses[factor])
    shown = {name: with_dose(method, factor)(low)}
    if name == "input":
        noise_free = case.subject.image("noise_free")
        shown |= {"full dose": full} | ({} if noise_free is None else {"noise-free": case.read(noise_free)})
    index = center_of_activity(full.suv)[1]
    rows = []
    for image, series in shown.items():
        views = {
            "projection": maximum_projection(series.suv, "coronal"),
            "plane": plane(series.suv, "coronal", index=index),
        }
        where = {"image": image, "subject": case.name, "dose_reduction_factor": factor}
        sizes = {"pixel_width_mm": float(series.voxel_size[0]), "pixel_height_mm": float(series.voxel_size[2])}
        rows += [{**where, "view": view, **sizes, **_packed(panel)} for view, panel in views.items()]
    return {"samples": rows}


def _packed(panel: NDArray[np.floating]) -> dict[str, object]:
    """Return an image of SUV as JSON holds it: 8 bits over the window."""
    low, high = SAMPLE_WINDOW
    grey = np.clip(np.round((panel - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return {"n_rows": grey.shape[0], "n_columns": grey.shape[1], "grey": base64.b64encode(grey.tobytes()).decode()}


def grey_image(row: Mapping[str, object]) -> NDArray[np.floating]:
    """Return the image of a row of samples, SUV [g/mL], head up."""
    low, high = SAMPLE_WINDOW
    grey = np.frombuffer(base64.b64decode(str(row["grey"])), dtype=np.uint8)
    shape = int(str(row["n_rows"])), int(str(row["n_columns"]))
    return low + (high - low) * grey.reshape(shape).astype(np.float32) / 255
