"""Results of one method on one subject, kept in a folder, so that an evaluation that was killed goes on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pipeline
from pipeline.comparison.baselines import COMPETITORS
from pipeline.comparison.cases import Case
from pipeline.errors import PETError
from pipeline.files import write_text

__all__ = ["KeptResults"]

# Folders and modules.
_MEASURING = ("evaluation", "images", *(f"comparison/{name}" for name in ("filters", "figures", "reference")))
_DENOISING = ("networks", "inference", "transforms")
_NAMED = 12  # digits of a file's key


@dataclass(frozen=True)
class KeptResults:
    """A folder with a file of results for each subject and method."""

    folder: Path
    """Is made if need be."""
    identities: Mapping[str, str]
    """Method -> what its results depend on, such as the SHA-256 of its weights; a method without is never kept."""

    def of(self, case: Case, method: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is kept of a method on a subject, or else make and keep it.

        What is kept holds for the same files of the subject (names, sizes, times of change), the same identity, and the
        same code that measures and denoises.

        Raises
        ------
        PETError
            If the folder cannot be written, or a file in it is damaged.
        """
        if method not in self.identities:
            return make()
        files = [
            (f.path, stat.st_size, stat.st_mtime_ns) for f in case.subject.files() if (stat := _stat(case, f.path))
        ]
        depends = [case.name, sorted(case.doses), files, self.identities[method], _code(_MEASURING)]
        if method not in COMPETITORS:
            depends.append(_code(_DENOISING))
        key = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:_NAMED]
        path = self.folder / f"{case.name.replace('/', '_')}_{Path(method).stem}_{key}.json"
        try:
            if path.exists():
                return json.loads(path.read_text(encoding="utf-8"))
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise PETError(f"{path}: cannot be used ({error}), expected results that were kept, or a folder") from error
        made = make()
        write_text(path, json.dumps(made))
        return made


def _stat(case: Case, path: str) -> Any:
    place = case.root / path
    return place.stat() if place.exists() else None


@cache
def _code(parts: tuple[str, ...]) -> str:
    """Return the SHA-256 of the source of parts of this package."""
    root, digest = Path(pipeline.__file__).parent, hashlib.sha256()
    for part in parts:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
