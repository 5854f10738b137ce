"""Who made a series: the item that this program adds to the equipment that contributed to it (PS3.3 C.12.1)."""

from pydicom.dataset import Dataset

from pipeline import __version__
from pipeline.pet.dicom.values import code_item, value_of

__all__ = ["PRODUCT", "add_equipment"]

PRODUCT = "unipet_3d"
"""Manufacturer and model name of what this program writes."""


def add_equipment(header: Dataset, *, contribution: str) -> None:
    """Append this program, its version and what it did to ContributingEquipmentSequence; what is there stays.

    `contribution` is a short text (ST, at most 1024 characters). The standard has no attribute for the digest of
    weights, which is part of the text.

    Raises
    ------
    PETError
        The sequence of the source is damaged.
    """
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item("109102", "DCM", "Processing Equipment")]
    item.Manufacturer = item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = __version__
    item.ContributionDescription = contribution
    header.ContributingEquipmentSequence = [*(value_of(header, "ContributingEquipmentSequence") or ()), item]
