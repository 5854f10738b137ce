"""How a process of ours ends: what is half written is removed, and a user's mistake takes one line."""

import signal
import sys
from types import TracebackType

from pipeline.errors import line_for_user

__all__ = ["end_by_signals", "end_in_one_line"]


def end_by_signals() -> None:
    """Leave through the stack, which removes what is half written, when the system or the terminal ends the process."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if number := getattr(signal, name, None):
            signal.signal(number, lambda n, _: sys.exit(128 + n))


def end_in_one_line() -> None:
    """Let this process end in one line where the mistake is the user's, and clean up when it is ended.

    This is for processes whose entry point is not ours, such as `python -m monai.bundle run`, and for its `initialize`.
    """

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = "interrupted, nothing half written is left"
        if not isinstance(error, KeyboardInterrupt) and (line := line_for_user(error) or "") == "":
            sys.__excepthook__(kind, error, trace)
        else:
            print(f"unipet: {line}", file=sys.stderr)

    sys.excepthook = say
    end_by_signals()
