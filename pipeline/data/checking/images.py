"""Check the images of a subject against each other: grid, tracer, patient, noise and mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline.data.building.headers import ImageHeader, read_image_header, reason_for
from pipeline.data.checking.finding import Problem
from pipeline.data.manifest import Image, Manifest, Subject, read_image
from pipeline.images.noise import noise_meter
from pipeline.images.regions import body_mask
from pipeline.pet.grid import Grid, grid_difference
from pipeline.pet.volumes import read_grid, read_labels_on

__all__ = ["MEAN_AGREEMENT", "MEAN_SUV", "check_images", "shared_identities"]

MEAN_AGREEMENT = 0.1
"""Relative difference of the body's mean SUV allowed between a low dose and the full dose."""

MEAN_SUV = (0.2, 3.0)
"""Mean SUV of the body that is believed [g/mL]: 1 where nothing is excreted and the whole patient is seen."""

OUTSIDE_THE_BODY = 0.2
"""Fraction of labelled voxels that may lie outside the body of the full-dose image."""


def check_images(
    subject: Subject, root: Path, *, without: Collection[str] = (), with_voxels: bool = False
) -> tuple[list[Problem], set[str]]:
    """Check the headers of a subject's images, and perhaps their voxels, except for paths that are known to be missing.

    The result is the problems, and digests of the patient's identifiers in DICOM.
    """
    problems: list[Problem] = []
    headers: dict[str, ImageHeader] = {}
    for image in subject.images:
        if image.path in without:
            continue
        try:
            headers[image.place] = read_image_header(root / image.path, sidecar=image.sidecar, series=image.series)
        except Exception as error:  # noqa: BLE001 - a damaged file makes libraries raise anything
            problems.append(Problem("header", subject.id, image.place, reason_for(error, root)))
    full = headers.get(subject.full_dose.place)
    problems += _against_manifest(subject, headers, full)
    problems += _labels(subject, None if full is None else full.grid, root, without)
    identities = {identity for header in headers.values() for identity in header.identities}
    n_patients = sum(identity.startswith("PatientID") for identity in identities)
    if n_patients > 1:
        problems.append(
            Problem("header", subject.id, "", f"{n_patients} different PatientID in its images, expected one")
        )
    if with_voxels:
        problems += _label_values(subject, root, without)
        problems += _voxels(subject, [image for image in subject.images if image.place in headers], root)
    return problems, identities


def _against_manifest(
    subject: Subject, headers: Mapping[str, ImageHeader], full: ImageHeader | None
) -> Iterator[Problem]:
    for place, header in headers.items():
        difference = None if full is None else grid_difference(header.grid, full.grid)
        if difference is not None:
            yield Problem("geometry", subject.id, place, difference)
        elif subject.shape not in (None, header.shape) or not np.allclose(
            header.voxel_size, subject.voxel_size or header.voxel_size, rtol=1e-3
        ):
            stated = f"shape {subject.shape}, voxels {subject.voxel_size} mm"
            yield Problem("geometry", subject.id, place, f"{header.grid}, the manifest says {stated}")
        if conflict := header.conflict_with(subject.tracer):
            yield Problem("tracer", subject.id, place, conflict)


def _labels(subject: Subject, full: Grid | None, root: Path, without: Collection[str]) -> Iterator[Problem]:
    for file in (subject.lesions, subject.organs, subject.attenuation):
        if file is None or file.path in without:
            continue
        try:
            grid = read_grid(root / file.path)
        except Exception as error:  # noqa: BLE001 - a damaged file makes libraries raise anything
            yield Problem("header", subject.id, file.path, reason_for(error, root))
            continue
        if full is not None and (difference := grid_difference(grid, full)):
            yield Problem("geometry", subject.id, file.path, difference)


def _label_values(subject: Subject, root: Path, without: Collection[str]) -> Iterator[Problem]:
    """Check that labels are whole numbers, and that they lie in the body of their own patient."""
    try:
        series = read_image(subject.full_dose, root)
    except Exception:  # noqa: BLE001 - a damaged file makes libraries raise anything
        return
    body = body_mask(series.suv, voxel_size=series.voxel_size)
    for file in (subject.lesions, subject.organs):
        if file is None or file.path in without:
            continue
        try:
            labelled = read_labels_on(root / file.path, series.grid) > 0
        except Exception as error:  # noqa: BLE001 - a damaged file makes libraries raise anything
            yield Problem("values", subject.id, file.path, reason_for(error, root))
            continue
        outside = float((labelled & ~body).sum()) / max(1, int(labelled.sum()))
        if outside > OUTSIDE_THE_BODY:
            detail = f"{100 * outside:.0f} % of its labelled voxels lie outside the body, expected labels of this image"
            yield Problem("values", subject.id, file.path, detail)


def _voxels(subject: Subject, images: Collection[Image], root: Path) -> Iterator[Problem]:
    """Check that noise rises with the dose reduction factor, and that the mean does not change."""
    doses = sorted((i for i in images if i.role == "dose"), key=lambda image: image.dose_reduction_factor)
    if not doses or doses[0].dose_reduction_factor != 1:
        return
    body = np.zeros(0, dtype=bool)
    mean_full = 0.0
    noisiest = (0.0, 0.0)  # dose reduction factor and noise of the noisiest image so far
    for image in doses:
        factor = image.dose_reduction_factor
        try:
            series = read_image(image, root)
            if factor == 1:
                body = body_mask(series.suv, voxel_size=series.voxel_size)
            noise = noise_meter(series.suv, voxel_size=series.voxel_size, body=body)
            mean = float(series.suv[body].mean(dtype=np.float64))
        except Exception as error:  # noqa: BLE001 - a damaged file makes libraries raise anything
            yield Problem("values", subject.id, image.place, reason_for(error, root))
            if factor == 1:
                return
            continue
        if factor == 1:
            mean_full = mean
            if not MEAN_SUV[0] <= mean <= MEAN_SUV[1]:
                wanted = f"expected {MEAN_SUV[0]:g} to {MEAN_SUV[1]:g}: dose, weight or a time is likely wrong"
                detail = f"mean SUV of the body is {mean:.3g} g/mL, {wanted}"
                yield Problem("values", subject.id, image.place, detail)
        elif abs(mean / mean_full - 1) > MEAN_AGREEMENT:
            change = f"{100 * (mean / mean_full - 1):+.0f} %"
            detail = f"mean SUV of the body is {change} from full dose, expected the same activity"
            yield Problem("values", subject.id, image.place, detail)
        if noise <= noisiest[1]:
            found = f"noise is {noise:.4f} at dose reduction factor {factor:g} and {noisiest[1]:.4f} at {noisiest[0]:g}"
            yield Problem("noise", subject.id, image.place, f"{found}, expected it to rise")
        noisiest = max(noisiest, (factor, noise), key=lambda pair: pair[1])


def shared_identities(manifest: Manifest, identities: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """Find patients in two splits that only DICOM knows to be one, by the digests that `check_images` returned."""
    owners: dict[str, list[Subject]] = defaultdict(list)
    for subject in manifest.subjects:
        for identity in identities.get(subject.id, ()):
            owners[identity].append(subject)
    reported = set()
    for identity, subjects in sorted(owners.items()):
        by_split = {subject.split: subject.id for subject in subjects}
        # The same patient by name is found without DICOM.
        if len(by_split) < 2 or len({subject.patient for subject in subjects}) < 2:
            continue
        pair = tuple(sorted(by_split.values()))
        if pair not in reported:
            reported.add(pair)
            where = " and ".join(f"{id_} in {split}" for split, id_ in sorted(by_split.items()))
            yield Problem("leak", pair[0], "", f"the same {identity.partition(':')[0]} in two splits: {where}")
