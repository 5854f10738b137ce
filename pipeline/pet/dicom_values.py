"""Values of DICOM attributes as plain numbers and texts, or a refusal that names the attribute."""

import math
from typing import Any

from pydicom.dataset import Dataset

from pipeline.pet.errors import PETError

__all__ = ["number_of", "text_of", "value_of"]


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute, or None if it is absent or empty.

    Raises
    ------
    PETError
        If its bytes are not a value of its kind.
    """
    try:
        value = dataset.get(keyword)
    except Exception as error:
        # pydicom decodes on access, and raises whatever the damaged bytes lead to.
        raise PETError(f"{keyword} is damaged and cannot be decoded") from error
    return None if value is None or value == "" else value


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return the value of an attribute that holds one number, or None if it is absent or empty.

    Raises
    ------
    PETError
        If the value is not one finite number.
    """
    value = value_of(dataset, keyword)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise PETError(f"{keyword} is not a number") from error
    if not math.isfinite(number):
        raise PETError(f"{keyword} is {number}, expected a finite number")
    return number


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return the value of an attribute as a text, ``""`` if it is absent or empty."""
    value = value_of(dataset, keyword)
    return "" if value is None else str(value).strip()
