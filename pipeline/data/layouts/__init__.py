"""How data sets lie on disk: one file per layout, each a function from a folder to the sessions in it."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.data.layouts.autopet import find_autopet
from pipeline.data.layouts.bids_pet import find_bids_pet
from pipeline.data.layouts.enhance_pet import find_enhance_pet
from pipeline.data.layouts.found_session import FoundSession
from pipeline.data.layouts.simulated import find_simulated
from pipeline.data.layouts.udpet import dose_reduction_factor_in, find_udpet
from pipeline.data.manifest import LayoutName

__all__ = ["LAYOUTS", "FoundSession", "dose_reduction_factor_in"]

LAYOUTS: dict[LayoutName, Callable[[Path, str | None], Iterable[FoundSession]]] = {
    "udpet": find_udpet,
    "autopet": find_autopet,
    "enhance_pet": find_enhance_pet,
    "bids_pet": find_bids_pet,
    "simulated": find_simulated,
}
"""For each layout: (folder, units that the user states or None) -> sessions found."""
