"""Results of one method on one subject, kept in a folder, so that an evaluation that was killed goes on."""

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pipeline
from pipeline.comparison.baselines import COMPETITORS
from pipeline.comparison.cases import Case
from pipeline.errors import PETError
from pipeline.files import write_text

__all__ = ["KeptResults", "state_of"]

# Folders and modules.
_MEASURING = ("evaluation", "images", *(f"comparison/{name}" for name in ("filters", "figures", "reference")))
_DENOISING = ("networks", "diffusion", "inference", "transforms")
_NAMED = 12  # digits of a file's key


@dataclass(frozen=True)
class KeptResults:
    """A folder with a file of results for each subject and method."""

    folder: Path
    """Is made if need be."""
    identities: Mapping[str, str]
    """Method -> what its results depend on, such as the SHA-256 of its weights; a method without is never kept."""

    def of(self, case: Case, method: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is kept of a method on a subject, or else make and keep it; it depends on the subject's files.

        Raises
        ------
        PETError
            If the folder cannot be written, or a file in it is damaged.
        """
        return self.piece(case.name, method, state_of(case), make)

    def has(self, case: Case, method: str) -> bool:
        """Return whether something is kept of a method on a subject."""
        path = self._path(case.name, method, state_of(case))
        return path is not None and path.exists()

    def piece(
        self,
        name: str,
        method: str,
        depends: list[Any],
        make: Callable[[], dict[str, Any]],
        *,
        code: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Return what is kept of a method under the name of a piece of work, or else make and keep it.

        What is kept holds for the same identity of the method, the same of what the piece `depends` on, as JSON holds
        it, and the same code that measures and denoises: that of images, and of the further parts of this package that
        `code` names, such as ``simulation``. Comments and docstrings may change.

        Raises
        ------
        PETError
            If the folder cannot be written, or a file in it is damaged.
        """
        found = self.kept_piece(name, method, depends, code=code)
        if found is not None:
            return found
        path = self._path(name, method, depends, code)
        if path is None:
            return make()
        with _usable(path):  # found before the work
            self.folder.mkdir(parents=True, exist_ok=True)
        made = make()
        write_text(path, json.dumps(made))
        return made

    def kept_piece(
        self, name: str, method: str, depends: list[Any], *, code: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        """Return what is kept of a piece of work, None if nothing is; arguments and errors are those of `piece`."""
        path = self._path(name, method, depends, code)
        if path is None:
            return None
        with _usable(path):
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _path(self, name: str, method: str, depends: list[Any], code: Sequence[str] = ()) -> Path | None:
        if method not in self.identities:
            return None
        conditions = [name, *depends, self.identities[method], _code((*_MEASURING, *code))]
        if method not in COMPETITORS:
            conditions.append(_code(_DENOISING))
        key = hashlib.sha256(json.dumps(conditions).encode()).hexdigest()[:_NAMED]
        return self.folder / f"{name.replace('/', '_')}_{Path(method).stem}_{key}.json"


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Say which file cannot be used."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise PETError(f"{path}: cannot be used ({error}), expected results that were kept, or a folder") from error


def state_of(case: Case) -> list[Any]:
    """Return what results on a subject depend on: its doses and files, by name, size and time of change."""
    places = [(file.place, case.root / file.path) for file in case.subject.files()]
    stats = [(path, place.stat()) for path, place in places if place.exists()]
    return [sorted(case.doses), [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]]


@cache
def _code(parts: tuple[str, ...]) -> str:
    """Return the SHA-256 of what the source of parts of this package does."""
    root, digest = Path(pipeline.__file__).parent, hashlib.sha256()
    for part in parts:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            digest.update(_without_words(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _without_words(source: str) -> str:
    """Return the syntax tree of a source as text, in which comments, docstrings and line numbers do not appear."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            is_text = [isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant) for x in body]
            node.body = [x for x, text in zip(body, is_text, strict=True) if not text]  # type: ignore[attr-defined]
    return ast.dump(tree)
