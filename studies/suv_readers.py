"""The tools that the table compares, each called the way its documentation says, on the folder of a series."""

import importlib.util
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

__all__ = ["READERS", "Image", "Reader"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Image:
    """A volume as a tool gives it, axes nearest to RAS+."""

    values: NDArray[np.float64]
    """Shape (X, Y, Z)."""

    affine: NDArray[np.float64]
    """Voxel index to RAS+ position [mm]. Shape (4, 4)."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One column of the table."""

    name: str
    """Heading of the column."""

    distribution: str
    """Name under which pip knows it."""

    module: str
    """Module that must be there."""

    gives_suv: bool
    """Whether it computes SUV; else it gives image values, and SUV is left to its user."""

    read: Callable[[Path], list[Image]]
    """Reads the folder of a series."""

    single_slice: bool = False
    """Whether it takes one file at a time, so that it cannot know of the others."""

    @property
    def installed(self) -> bool:
        """Whether the tool can be imported here."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """Its version."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return "?"


def _canonical(values: NDArray[np.float64], affine: NDArray[np.float64]) -> Iterator[Image]:
    """Yield the frames of a volume of shape (X, Y, Z) or (X, Y, Z, frames)."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(values, dtype=np.float64), affine))
    array = np.asarray(image.dataobj)
    for frame in np.moveaxis(array, 3, 0) if array.ndim == 4 else [array]:
        yield Image(frame, image.affine)


def _niftis(folder: Path) -> list[Image]:
    images: list[Image] = []
    for path in sorted(folder.glob("*.nii*")):
        image = nib.load(path)
        images.extend(_canonical(image.get_fdata(), image.affine))
    return images


def _grid(spacing: tuple[float, ...], origin: tuple[float, ...], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the RAS+ affine of a grid that a tool describes in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(spacing)
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def _this_project(folder: Path) -> list[Image]:
    from pipeline.pet import read_pet

    series = read_pet(folder)
    return [Image(series.suv.astype(np.float64), series.affine)]


def _dcm2niix(folder: Path) -> list[Image]:
    import dcm2niix

    with tempfile.TemporaryDirectory() as out:
        subprocess.run([dcm2niix.bin, "-b", "n", "-z", "n", "-f", "%s_%d", "-o", out, str(folder)], check=True)
        return _niftis(Path(out))


def _dicom2nifti(folder: Path) -> list[Image]:
    import dicom2nifti

    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.dicom_series_to_nifti(str(folder), str(Path(out, "image.nii")), reorient_nifti=True)
        return _niftis(Path(out))


def _simpleitk(folder: Path) -> list[Image]:
    import SimpleITK as sitk

    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    direction = np.reshape(image.GetDirection(), (3, 3))
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return list(_canonical(values, _grid(image.GetSpacing(), image.GetOrigin(), direction)))


def _monai(folder: Path) -> list[Image]:
    from monai.data import PydicomReader

    reader = PydicomReader()
    values, meta = reader.get_data(reader.read(folder))
    return list(_canonical(values, np.asarray(meta["affine"])))


def _pysuv(folder: Path) -> list[Image]:
    import pydicom
    import pysuv

    # It takes one file; that files are put in order of their positions is not its doing, nor its fault.
    paths = sorted(folder.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    slices = [np.asarray(pysuv.compute_suv(path)).T for path in paths]
    first, last = (pydicom.dcmread(path) for path in (paths[0], paths[-1]))
    along_row, along_column = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * first.PixelSpacing[1], along_column * first.PixelSpacing[0]
    affine[:3, 3] = first.ImagePositionPatient
    affine[:3, 2] = (np.array(last.ImagePositionPatient) - affine[:3, 3]) / max(len(paths) - 1, 1)
    return list(_canonical(np.stack(slices, axis=2), LPS_TO_RAS @ affine))


def _z_rad(folder: Path) -> list[Image]:
    from zrad.image import Image as ZRadImage

    image = ZRadImage.from_dicom(str(folder), "PET")
    direction = np.reshape(image.direction, (3, 3))
    return list(_canonical(image.array.transpose(2, 1, 0), _grid(image.spacing, image.origin, direction)))


def _mirp(folder: Path) -> list[Image]:
    from mirp import extract_images

    images = []
    exported = extract_images(image=str(folder), image_modality="pet", image_export_format="native", write_images=False)
    for subject in exported:
        for image in subject[0]:
            # Everything that MIRP gives is in the order z, y, x.
            direction = np.reshape(image.image_orientation, (3, 3))[::-1, ::-1]
            grid = _grid(image.image_spacing[::-1], image.image_origin[::-1], direction)
            images.extend(_canonical(image.get_voxel_grid().transpose(2, 1, 0), grid))
    return images


READERS = (
    Reader(name="this project", distribution="unipet_3d", module="pipeline", gives_suv=True, read=_this_project),
    Reader(name="Z-Rad", distribution="z-rad", module="zrad", gives_suv=True, read=_z_rad),
    Reader(name="MIRP", distribution="mirp", module="mirp", gives_suv=True, read=_mirp),
    Reader(name="pySUV", distribution="pysuv", module="pysuv", gives_suv=True, read=_pysuv, single_slice=True),
    Reader(name="dcm2niix", distribution="dcm2niix", module="dcm2niix", gives_suv=False, read=_dcm2niix),
    Reader(name="dicom2nifti", distribution="dicom2nifti", module="dicom2nifti", gives_suv=False, read=_dicom2nifti),
    Reader(name="SimpleITK", distribution="SimpleITK", module="SimpleITK", gives_suv=False, read=_simpleitk),
    Reader(name="MONAI PydicomReader", distribution="monai", module="monai", gives_suv=False, read=_monai),
)
"""All tools, in the order of the table."""
