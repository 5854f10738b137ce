"""What must not be used: a user's list, and whom an exclusion means."""

from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from pipeline.data.layouts.candidate import Candidate
from pipeline.data.manifest import Exclusion, Subject, first_mistake, read_yaml
from pipeline.pet import PETError

__all__ = ["names_of", "read_exclusions"]


def read_exclusions(path: str | Path) -> tuple[Exclusion, ...]:
    """Read a YAML list of exclusions, each with ``subject``, ``reason`` and perhaps ``dose_reduction_factor``.

    Raises
    ------
    PETError
        If the file is not such a list.
    """
    path = Path(path)
    content = read_yaml(path)
    if isinstance(content, dict) and set(content) == {"exclusions"}:
        content = content["exclusions"]
    try:
        return TypeAdapter(tuple[Exclusion, ...]).validate_python(content or [])
    except ValidationError as error:
        raise PETError(f"{path}: {first_mistake(error)}, expected a list of exclusions") from error


def names_of(subject: Subject | Candidate) -> frozenset[str]:
    """Return what an exclusion may call a subject: its id, its case, or one of its folders."""
    names = {subject.id} if isinstance(subject, Subject) else {subject.id, subject.name}
    for image in subject.images:
        names.update(PurePosixPath(image.path).parts[:-1])
    return frozenset(names)
