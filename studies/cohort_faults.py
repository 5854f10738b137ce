"""What a cohort survives: broken scans, kills, a full disk, parts, many scans in one worker; and what it costs.

python studies/cohort_faults.py WORK --scans 1000 --kills 100 --soak 500 --jobs 2 --output cohort_faults.json

Scans of 32 x 32 x 48 voxels are simulated into WORK/scans, and `unipet cohort` runs on them as a user runs it. Every
experiment compares what a run left with what an undisturbed run leaves, byte by byte but for times, and ends the study
if they differ. Results go to the output as soon as an experiment has them; one that is there is not done again.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from cohort_scans import BROKEN, make_scans, subset

from pipeline.cohort import cohort_status
from pipeline.files import UNFINISHED, write_json

COMMAND = (sys.executable, "-c", "from pipeline.cli import main; main()", "cohort")


class Study:
    """The experiments; each returns what it found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work
        self.jobs: int = arguments.jobs
        self.arguments = arguments
        self.options = ("--method", arguments.method, *(() if arguments.with_reports else ("--no-report",)))
        self.scans = make_scans(arguments.work, arguments.scans, with_dicom=arguments.with_dicom, jobs=arguments.jobs)
        self.some = subset(self.work, self.scans, arguments.killed_scans, "some")

    def start(self, scans: Path, out: Path, *more: object) -> subprocess.Popen[str]:
        """Start `unipet cohort` in a process group of its own."""
        words = [*COMMAND, scans, out, *self.options, *more]
        return subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, scans: Path, out: Path, *more: object) -> tuple[int, str, float]:
        """Return exit code, what was printed, and the time [s]."""
        begun = time.perf_counter()
        process = self.start(scans, out, *more)
        printed = "".join(process.communicate())
        return process.returncode, printed, time.perf_counter() - begun

    def fresh(self, name: str) -> Path:
        """Name of a folder of results that is not there."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name

    def undisturbed(self) -> dict[str, bytes]:
        """What an undisturbed run of some scans leaves."""
        out = self.work / "undisturbed"
        self.run(self.some, out, "--jobs", self.jobs)
        return results(out)

    def broken(self) -> dict[str, object]:
        """Scans of which ten are broken in ten ways, and a second run."""
        scans, out = subset(self.work, self.scans, self.arguments.scans, "with_broken"), self.fresh("out_broken")
        paths = sorted(scans.glob("*_pet.nii.gz"))
        spoiled = dict(zip(BROKEN, paths[:: max(1, len(paths) // len(BROKEN))], strict=False))
        for kind, path in spoiled.items():
            BROKEN[kind][0](path)
        rate = len(BROKEN) / len(paths)
        code, printed, seconds = self.run(scans, out, "--jobs", self.jobs, "--max-failed", rate * 0.99)
        assert code == 1, printed
        failed = pd.read_csv(out / "failed.tsv", sep="\t").set_index("source")["reason"]
        for kind, path in spoiled.items():
            assert BROKEN[kind][1] in failed[path.name], (kind, failed[path.name])
        status = vars(cohort_status(out))
        assert status == {
            "total": len(paths),
            "done": len(paths) - len(BROKEN),
            "failed": len(BROKEN),
            "running": 0,
            "pending": 0,
        }, status
        code, printed, again = self.run(scans, out, "--jobs", self.jobs, "--max-failed", rate)
        assert code == 0, printed
        return {**status, "seconds": seconds, "seconds_of_second_run": again, "reasons": failed.to_dict()}

    def speed(self) -> dict[str, object]:
        """The same scans on one worker and on several: the rate from the first result to the last, and all times."""
        scans = subset(self.work, self.scans, self.arguments.speed_scans, "for_speed")
        found: dict[str, object] = {"scans": self.arguments.speed_scans}
        rates: dict[int, float] = {}
        for jobs in (1, self.jobs):
            out = self.fresh(f"out_speed_{jobs}")
            before = processor_seconds()
            code, printed, seconds = self.run(scans, out, "--jobs", jobs)
            assert code == 0, printed
            found |= {f"seconds_on_{jobs}": seconds, f"processor_seconds_on_{jobs}": processor_seconds() - before}
            ended = [path.stat().st_mtime for path in out.glob("*/run.json")]
            rates[jobs] = 3600 * (len(ended) - 1) / (max(ended) - min(ended))
        return found | {"scans_per_hour": rates, "ratio": rates[self.jobs] / rates[1]}

    def parts(self) -> dict[str, object]:
        """Four parts on four processes at once, without an engine."""
        out = self.fresh("out_parts")
        processes = [self.start(self.some, out, "--part", f"{part}/4") for part in range(1, 5)]
        printed = ["".join(process.communicate()) for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0, 0], printed
        check_equal(results(out), self.undisturbed())
        return {"parts": 4, "equal": True}

    def two(self) -> dict[str, object]:
        """Two runs on one folder, started at once; enough scans that the second comes before the first has ended."""
        scans, out = subset(self.work, self.scans, self.arguments.speed_scans, "for_two"), self.fresh("out_two")
        both = [self.start(scans, out, "--jobs", self.jobs) for _ in range(2)]
        printed = ["".join(process.communicate()) for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 1], printed
        refused = printed[codes.index(1)]
        assert "another run is denoising into it" in refused, refused
        assert vars(cohort_status(out))["done"] == self.arguments.speed_scans
        return {"refused": refused.strip().splitlines()[-1]}

    def kills(self) -> dict[str, object]:
        """Client or workers ended at seeded moments, also while results are written, until enough were."""
        expected = self.undisturbed()
        chance = random.Random(self.arguments.seed)
        _, _, usual = self.run(self.some, self.fresh("out_kills"), "--jobs", self.jobs)
        out, n, rounds, runs, victims = self.fresh("out_kills"), 0, 0, 0, {}
        while n < self.arguments.kills:
            process = self.start(self.some, out, "--jobs", self.jobs)
            runs += 1
            while process.poll() is None and n < self.arguments.kills:
                if chance.random() < 0.5:
                    wait_for(partial(is_writing, out, process))
                else:
                    time.sleep(chance.uniform(0, usual / 2))
                kind, number = chance.choice(["client", "worker", "worker"]), chance.choice([9, 15])
                if victim := chosen(process.pid, kind, chance):
                    os.kill(victim, number)
                    n += 1
                    name = f"{kind}, {signal.Signals(number).name}"
                    victims[name] = victims.get(name, 0) + 1
                if kind == "client":
                    break
            process.communicate()
            check_nothing_is_half(out)
            if (out / "cohort.html").exists() or n == self.arguments.kills:
                self.finished(out, expected)
                rounds += 1
                print(f"{n} kills, {runs} runs, {rounds} cohorts complete and equal: {victims}", flush=True)
                out = self.fresh("out_kills")
        return {"kills": n, "victims": victims, "runs": runs, "cohorts": rounds, "seconds_undisturbed": usual}

    def finished(self, out: Path, expected: dict[str, bytes]) -> None:
        """Run once more whatever was left by chance, and compare."""
        code, printed, _ = self.run(self.some, out, "--jobs", self.jobs, "--retry-failed")
        assert code == 0, printed
        assert not list(out.rglob(f"{UNFINISHED}*")), "leftovers"
        check_equal(results(out), expected)

    def disk(self) -> dict[str, object]:
        """A disk that is full in the middle, freed, and run again; needs a small file system to fill."""
        place: Path | None = self.arguments.small_disk
        if place is None:
            return {"not run": "needs --small-disk, a folder on a file system of some hundred MB"}
        out = place / "out"
        shutil.rmtree(out, ignore_errors=True)
        process = self.start(self.some, out, "--jobs", self.jobs)
        wait_for(lambda: len(list(out.glob("*/run.json"))) >= 3 or process.poll() is not None)
        filler = place / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            except OSError:
                pass
        printed = "".join(process.communicate())
        filler.unlink(missing_ok=True)
        assert process.returncode == 1, printed
        assert "No space left on device" in printed, printed
        assert "Traceback" not in printed, printed
        before = vars(cohort_status(out))
        assert before["failed"] == 0, before
        check_nothing_is_half(out)
        code, again, _ = self.run(self.some, out, "--jobs", self.jobs)
        assert code == 0, again
        assert not list(out.rglob(f"{UNFINISHED}*")), "leftovers"
        check_equal(results(out), self.undisturbed())
        return {"said": printed.strip().splitlines()[-1], "done_when_full": before["done"], "equal": True}

    def soak(self) -> dict[str, object]:
        """Many scans in one process: its memory and its open files."""
        scans, out = subset(self.work, self.scans, self.arguments.soak, "for_soak"), self.fresh("out_soak")
        process = self.start(scans, out)
        memory: dict[int, int] = {}
        files: dict[int, int] = {}
        while process.poll() is None:
            done = len(list(out.glob("*/run.json")))
            try:
                memory[done] = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf(
                    "SC_PAGESIZE"
                )
                files[done] = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            except (OSError, IndexError):
                break
            time.sleep(0.2)
        process.communicate()
        warm = self.arguments.soak // 5
        early = float(np.median([size for done, size in memory.items() if warm <= done < 2 * warm]))
        late = float(np.median([size for done, size in memory.items() if done >= self.arguments.soak - warm]))
        return {
            "scans": self.arguments.soak,
            "growth_percent": 100 * (late / early - 1),
            "memory_mib": late / 2**20,
            "most_open_files_early": max(count for done, count in files.items() if warm <= done < 2 * warm),
            "most_open_files_late": max(count for done, count in files.items() if done >= self.arguments.soak - warm),
        }


def results(out: Path) -> dict[str, bytes]:
    """Every file of results and tables but states and logs, without what differs from run to run: times and UIDs."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_file() and name.parts[0] not in (".cohort", ".lock", "logs") and "dicom" not in str(name):
            content = path.read_bytes()
            if path.name.endswith("run.json"):
                record = json.loads(content)
                sizes = {k: v for k, v in record.pop("files").items() if not k.endswith(".html") and "dicom" not in k}
                kept = {k: v for k, v in record.items() if k not in ("started", "seconds")}
                content = json.dumps(kept | {"files": sizes}).encode()
            elif path.name == "scans.tsv":
                content = re.sub(rb"\t[0-9.]+\n", b"\n", content)
            elif path.name == "report.html":
                content = re.sub(rb"<dt>started</dt><dd>[^<]*</dd>", b"", content)
            found[str(name)] = content
    return found


def check_equal(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """End the study where results differ."""
    assert set(found) == set(expected), set(found) ^ set(expected)
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, differing[:5]


def check_nothing_is_half(out: Path) -> None:
    """End the study where a result that has a record lacks one of its files."""
    for path in out.glob("*/run.json"):
        for name, size in json.loads(path.read_text())["files"].items():
            there = path.parent / name
            found = sum(1 for _ in there.iterdir()) if name.endswith("/") else there.stat().st_size
            assert found == size, there


def processor_seconds() -> float:
    """Time of the processors that ended commands and their workers took, of the system included [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def workers_below(pid: int) -> Iterator[int]:
    """Ids of the workers that a process started; of its other children none."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == pid and b"spawn_main" in words:
            yield int(path.name)


def chosen(client: int, kind: str, chance: random.Random) -> int | None:
    """Id of a process to end: the client or one of its workers; None if there is none."""
    if kind == "client":
        return client
    below = sorted(workers_below(client))
    return chance.choice(below) if below else None


def is_writing(out: Path, process: subprocess.Popen[str]) -> bool:
    """Whether a result is being written, or nothing can be any more."""
    return any(out.glob(f".cohort/*/{UNFINISHED}*")) or process.poll() is not None


def wait_for(condition: Callable[[], bool], *, seconds: float = 600) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.005)


EXPERIMENTS = ("broken", "speed", "parts", "two", "kills", "disk", "soak")


def main() -> None:
    """Run the experiments that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for scans and results; made if need be")
    parser.add_argument("--scans", type=int, default=1000, help="scans of which ten are broken")
    parser.add_argument("--speed-scans", type=int, default=100, help="scans on one worker and on several")
    parser.add_argument("--killed-scans", type=int, default=30, help="scans of a cohort that is killed")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--soak", type=int, default=500, help="scans in one process")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--method", default="identity")
    parser.add_argument("--with-reports", action="store_true", help="write a page for each scan, too")
    parser.add_argument("--with-dicom", action="store_true", help="scans state dose and weight: DICOM is written")
    parser.add_argument("--small-disk", type=Path, help="folder on a file system that may be filled, such as a tmpfs")
    parser.add_argument("--experiment", action="append", choices=EXPERIMENTS, help="repeatable; by default all")
    parser.add_argument("--output", type=Path, default=Path("cohort_faults.json"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    study = Study(arguments)
    done = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.experiment or EXPERIMENTS:
        if name in done:
            continue
        begun = time.perf_counter()
        found = json.dumps(getattr(study, name)())
        for place in filter(None, (arguments.work, arguments.small_disk)):
            found = found.replace(f"{place}/", "")  # where it was run is of no interest
        done[name] = json.loads(found)
        write_json(arguments.output, done)
        print(f"{name}, {time.perf_counter() - begun:.0f} s: {json.dumps(done[name])}", flush=True)


if __name__ == "__main__":
    main()
