"""Tasks that write down that they ran, for workers to import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PETError


@dataclass(frozen=True)
class Task:
    """Square a number; a line a run in a file of that number says which process did it."""

    number: int
    folder: Path

    def __call__(self) -> int:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        self.act()
        return self.number**2

    @property
    def file(self) -> Path:
        return self.folder / f"ran_{self.number}"

    def runs(self) -> list[int]:
        return [int(pid) for pid in self.file.read_text(encoding="utf-8").split()] if self.file.exists() else []

    def act(self) -> None:
        pass


class Short(Task):
    def act(self) -> None:
        time.sleep(0.2)


class Bad(Task):
    def act(self) -> None:
        raise PETError("one is bad")


class Bug(Task):
    def act(self) -> None:
        raise KeyError("nothing")


class Greedy(Task):
    def act(self) -> None:
        raise MemoryError


class Suicide(Task):
    def act(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class SuicideOnce(Task):
    def act(self) -> None:
        if len(self.runs()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Hungry(Task):
    def act(self) -> None:
        held = []
        for _ in range(100):
            held.append(b"1" * 20_000_000)
            time.sleep(0.05)


class CutOff(Task):
    """The first worker loses its connections to the scheduler, as if its port were closed."""

    def act(self) -> None:
        from distributed import get_worker

        if len(self.runs()) == 1:
            worker = get_worker()
            worker.loop.add_callback(worker.batched_stream.comm.abort)
            time.sleep(5)


class Frozen(Task):
    """The first worker stops for some seconds."""

    def act(self) -> None:
        if len(self.runs()) == 1:
            (self.folder / f"frozen_{self.number}").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)


class HalfWritten(Task):
    """Writes for a minute; ended, it removes what it has written."""

    def act(self) -> None:
        half = self.folder / f"half_{self.number}"
        half.touch()
        try:
            for _ in range(6000):
                time.sleep(0.01)
        finally:
            half.unlink()
            (self.folder / f"removed_{self.number}").touch()
