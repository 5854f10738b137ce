"""How far a cohort is: read from files alone, whoever works on it, and wherever."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PETError
from pipeline.files import write_json
from pipeline.workflow.places import Layout, files_of_state, root_locked
from pipeline.workflow.scan_state import STATES, NamedScan, ScanState, StateFiles

__all__ = ["CohortIndex", "CohortStatus", "cohort_status", "read_index", "write_index"]


@dataclass(frozen=True, kw_only=True)
class CohortIndex:
    """What a cohort is: its scans, and what their results depend on."""

    made: str
    """Digest of method, weights and options."""
    layout: Layout
    """How results lie."""
    facts: dict[str, Any]
    """Method, weights and options in words, for the page."""
    scans: dict[str, str]
    """The scans' keys, and their names."""


@dataclass(frozen=True, kw_only=True)
class CohortStatus:
    """How far a cohort is."""

    total: int
    done: int
    failed: int
    running: int
    pending: int

    def __str__(self) -> str:
        """Return the numbers in one line."""
        return ", ".join(f"{number} {name}" for name, number in asdict(self).items() if name != "total") + (
            f", of {self.total} scans"
        )


def _index_file(output_dir: Path) -> Path:
    return output_dir / STATES / "cohort.json"


def read_index(output_dir: Path) -> CohortIndex:
    """Return what a cohort is.

    Raises
    ------
    PETError
        There is none in this folder.
    """
    try:
        return CohortIndex(**json.loads(_index_file(output_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PETError(f"{output_dir}: holds no cohort, expected the OUT of `unipet cohort INPUT OUT`") from error


def write_index(output_dir: Path, index: CohortIndex) -> None:
    """Say what the cohort is, unless that is said already."""
    with root_locked(output_dir):
        try:
            if read_index(output_dir) == index:
                return
        except PETError:
            pass
        write_json(_index_file(output_dir), asdict(index))


def index_of(scans: Sequence[NamedScan], *, made: str, layout: Layout, facts: dict[str, Any]) -> CohortIndex:
    """Return what a cohort of these scans is."""
    return CohortIndex(made=made, layout=layout, facts=facts, scans={scan.key: scan.name for scan in scans})


def states_of(output_dir: Path, index: CohortIndex) -> dict[str, ScanState | None]:
    """Return by key what is known of each scan; None of one without a result of this method and these options."""
    states: dict[str, ScanState | None] = {}
    for key in index.scans:
        state = StateFiles(output_dir, key).read()
        is_here = state is not None and state.made == index.made
        if is_here and state is not None and state.outcome == "done":
            is_here = files_of_state(output_dir, state, index.layout).file("run.json").is_file()
        states[key] = state if is_here else None
    return states


def cohort_status(output_dir: Path) -> CohortStatus:
    """Return how far the cohort in a folder is.

    Raises
    ------
    PETError
        There is none.
    """
    index = read_index(output_dir)
    states = states_of(output_dir, index)
    outcomes = [state.outcome for state in states.values() if state is not None]
    left = [key for key, state in states.items() if state is None]
    running = sum(StateFiles(output_dir, key).is_locked() for key in left)
    return CohortStatus(
        total=len(states),
        done=outcomes.count("done"),
        failed=outcomes.count("failed"),
        running=running,
        pending=len(left) - running,
    )
