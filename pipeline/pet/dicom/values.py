"""Values of DICOM attributes as plain numbers and texts, or a refusal that names the attribute."""

import math
from functools import cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from pipeline.errors import PETError

__all__ = ["number_of", "text_of", "value_of"]


MAX_TEXT = 1024
"""Characters of the longest text that is read (PS3.5 6.2, ST); most may have 64."""


@cache
def _tag(keyword: str) -> BaseTag:
    # Looking up a keyword takes as long as decoding most values.
    return Tag(keyword)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute, or None if it is absent or empty.

    Raises
    ------
    PETError
        If its bytes are not a value of its kind.
    """
    try:
        element = dataset.get(_tag(keyword))
        value = None if element is None else element.value
    except Exception as error:
        # pydicom decodes on access, and raises whatever the damaged bytes lead to.
        raise PETError(f"{keyword} is damaged and cannot be decoded") from error
    if value and keyword.endswith("Sequence") and not isinstance(value, Sequence):
        raise PETError(f"{keyword} is damaged, it is not a sequence of items")
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
    """Return the value of an attribute as a text, ``""`` if it is absent or empty.

    Raises
    ------
    PETError
        If it is no text, as when a damaged length makes an element swallow the ones after it. Those may name the
        patient, so that no message may show them.
    """
    value = value_of(dataset, keyword)
    if isinstance(value, Sequence):
        raise PETError(f"{keyword} is damaged, it is not a text")
    text = "" if value is None else str(value).strip()
    # str() of several values, or of bytes, shows a NUL by its escape.
    if len(text) > MAX_TEXT or "\0" in text or "\\x00" in text:
        raise PETError(f"{keyword} is damaged, it is not a text")
    return text
