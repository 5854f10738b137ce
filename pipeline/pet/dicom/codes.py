"""Items of DICOM code sequences."""

from pydicom.dataset import Dataset

__all__ = ["code_item"]


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence (DICOM PS3.3 8.8)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
