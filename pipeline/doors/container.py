"""One image, three doors: which of them a call of the container means."""

from collections.abc import Collection, Mapping, Sequence

__all__ = ["LEVELS", "ROUTER_FOLDERS", "command_of"]

LEVELS = ("participant", "group")
"""Levels of analysis of a BIDS app (Gorgolewski et al. 2017, doi:10.1371/journal.pcbi.1005209)."""

ROUTER_FOLDERS = ("MERCURE_IN_DIR", "MERCURE_OUT_DIR")
"""Variables in which the DICOM router mercure tells a module its folders."""


def command_of(words: Sequence[str], environment: Mapping[str, str], *, commands: Collection[str]) -> list[str]:
    """Return the words of the command of `unipet` that a call of the container means.

    ``BIDS_DIR OUTPUT_DIR participant|group ...`` is what every BIDS app takes, and means ``bids-app``; so does all that
    begins with an absolute path. Nothing at all, where a router names its folders in the environment, means ``module``.
    All else is a command of `unipet` as it is.

    Parameters
    ----------
    words
        What the container was given.
    environment
        Its environment.
    commands
        Names of the commands of `unipet`; one of these is never a folder.
    """
    if not words and all(environment.get(name) for name in ROUTER_FOLDERS):
        return ["module"]
    first, level = (words[k] if len(words) > k else "-" for k in (0, 2))
    if first.startswith("/") or (level in LEVELS and first not in commands and not first.startswith("-")):
        return ["bids-app", *words]
    return list(words)
