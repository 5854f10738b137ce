"""What the parts of a benchmark measure with: data, settings, kept results, processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.benchmark.definition import Definition, Source
from pipeline.comparison import Case, KeptResults, cases_of
from pipeline.engine import Workers, run_tasks

__all__ = ["Part", "Piece", "Tables", "Work"]

Tables = dict[str, list[dict[str, Any]]]
"""Name of a table -> its rows, of numbers and texts."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of a part's work, kept when it is done."""

    depends: list[Any]
    """What its result depends on besides method and code, such as seed and settings, as JSON holds it."""
    make: Callable[[], Tables]
    """Measures; with several jobs it must be picklable, such as a `partial` of a function of a module."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a part gets besides the method that it measures."""

    definition: Definition
    root: Path | None
    """Folder of the subjects of manifests and recipes; None is that of each manifest."""
    scans: Path | None
    """Folder of real scans."""
    folder: Path
    """Folder of the benchmark's own results."""
    kept: KeptResults
    jobs: Workers | int = 1
    say: Callable[[str], object] = print
    """Is told in one line what is left out."""
    on_case: Callable[[str], None] = lambda case: None
    """Is told each subject or piece that is done."""
    found: dict[str, list[Case]] = field(default_factory=dict)
    """Subjects of sources, once they were looked for."""

    @property
    def simulated_root(self) -> Path:
        """Folder in which subjects, phantoms and lesions are simulated where they are missing."""
        return self.folder / "data" if self.root is None else self.root

    def cases(self, source: Source) -> list[Case]:
        """Return the subjects of a source, simulated where they are missing.

        Raises
        ------
        PETError
            If a source cannot be read, or has no such subjects.
        """
        key = source.model_dump_json()
        if key not in self.found:
            self.found[key] = cases_of(
                [source.manifest],
                split=source.split,
                root=self.root,
                simulated_root=self.simulated_root,
                jobs=self.jobs,
                cohorts=source.cohorts,
                n_subjects=source.n_subjects,
                factors=source.dose_reduction_factors,
            )
        return self.found[key]

    def tables(self, method: str, pieces: Mapping[str, Piece], *, code: tuple[str, ...] = ()) -> Tables:
        """Return the rows of all pieces of a part for a method, each kept from an earlier run, or made and kept.

        `pieces` have a name each, which is that of no other part's; `code` are the parts of this package, such as
        ``simulation`` or ``benchmark/phantom``, on whose code the results depend besides measures and networks.
        """
        made: dict[str, Tables] = {}
        new = []
        for name, piece in pieces.items():
            found = self.kept.kept_piece(name, method, piece.depends, code=code)
            if found is None:
                new.append(name)
            else:
                made[name] = found
        tasks = [
            partial(self.kept.piece, name, method, pieces[name].depends, pieces[name].make, code=code) for name in new
        ]
        for index, tables in run_tasks(tasks, where=self.jobs):
            made[new[index]] = tables
            self.on_case(new[index])
        gathered: Tables = {}
        for name in pieces:
            for table, rows in made[name].items():
                gathered.setdefault(table, []).extend(rows)
        return gathered


Part = Callable[[str, Any, Work], Tables]
"""Measures a method: (name of the row, method, work) -> tables. Rows need not name the method.

The method denoises a series, ``method(series)``; ``pipeline.comparison.with_dose(method, factor)`` is the method for
scans of a dose, told where it takes that. Input and filters are methods too. Settings are in ``work.definition``.
"""
