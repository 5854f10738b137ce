"""A cohort denoised, and what it left; for the tests of this folder."""

import json
import re
from pathlib import Path

from pipeline.cohort import CohortRun, ScanFolder, cohort_status
from pipeline.files import UNFINISHED
from pipeline.workflow import DenoiseOptions

PLAIN = DenoiseOptions(report=False)


def denoise(scans: Path, out: Path, denoiser, **more) -> dict[str, str]:
    """Return the status of each scan by its name."""
    run = CohortRun(ScanFolder(scans, out), denoiser, **{"options": PLAIN, **more})
    return {outcome.scan.name: outcome.status for outcome in run.outcomes()}


def results(out: Path) -> dict[str, bytes]:
    """Return every file of the results and tables but logs and states, without what differs from run to run: times."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_file() and name.parts[0] not in (".cohort", ".lock", "logs"):
            found[str(name)] = path.read_bytes()
    for name in [name for name in found if name.endswith("run.json")]:
        record = json.loads(found[name])
        found[name] = json.dumps({k: v for k, v in record.items() if k not in ("started", "seconds")}).encode()
    if "scans.tsv" in found:
        found["scans.tsv"] = re.sub(rb"\t[0-9.]+\n", b"\n", found["scans.tsv"])
    return found


def leftovers(out: Path) -> list[Path]:
    """Return what a killed process left."""
    return list(out.rglob(f"{UNFINISHED}*"))


def status_of(out: Path) -> dict[str, int]:
    """Return how many scans are done, failed, running and pending."""
    return vars(cohort_status(out))


def cut(path: Path) -> None:
    """Leave the first bytes of a volume."""
    path.write_bytes(path.read_bytes()[:400])
