"""Pause the garbage collector while many objects are made that all stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the search for cycles of dead objects inside the block.

    The headers of a series are some hundred thousand objects, none of which dies before the last is read. The
    collector would look through all of them again and again, which is a quarter of the time of reading.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
