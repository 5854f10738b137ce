"""What is unusual about the noise of a scan beside that of the training scans, in words."""

from collections.abc import Mapping

from pipeline.constants import STYLE_RANGE

__all__ = ["farthest_statistic", "style_rows", "unfamiliar_noise"]

_MEANING = {
    "quiet": ("level", "stronger", "weaker"),
    # The 50th and the 80th percentile of the local noise over its 20th.
    "median": (
        "spread over the quieter half of the body",
        "less even over the quieter half of the body",
        "more even over the quieter half of the body",
    ),
    "uneven": (
        "spread between quiet and noisy parts of the body",
        "less even between quiet and noisy parts of the body",
        "more even between quiet and noisy parts of the body",
    ),
    "coarse": ("correlation in plane", "more correlated between voxels", "less correlated between voxels"),
    "coarser": (
        "correlation in plane, farther away",
        "more correlated between distant voxels",
        "less correlated between distant voxels",
    ),
    "axial": ("difference between planes", "less correlated between planes", "more correlated between planes"),
    "axial_coarse": (
        "difference between every other plane",
        "less correlated between distant planes",
        "more correlated between distant planes",
    ),
}
"""Of each statistic of the noise: what it measures, and what it means to be above and below the training scans."""


def style_rows(deviations: Mapping[str, float]) -> list[dict[str, str | float | bool]]:
    """Return a row per statistic of a scan's noise: name, meaning, deviation [SD of the training scans], outside.

    `deviations` are those of `UniPET.style_deviation`. Outside are those beyond what the style follows.
    """
    rows: list[dict[str, str | float | bool]] = []
    for name, deviation in deviations.items():
        meaning = _MEANING.get(name, (name,))[0]
        rows.append({"name": name, "meaning": meaning, "deviation": deviation, "outside": abs(deviation) > STYLE_RANGE})
    return rows


def unfamiliar_noise(deviations: Mapping[str, float]) -> str | None:
    """Return one sentence on how a scan's noise differs from that of the training scans; None if it does not.

    The statistic that is farthest away comes first.
    """
    outside = sorted(
        ((name, sd) for name, sd in deviations.items() if abs(sd) > STYLE_RANGE), key=lambda item: -abs(item[1])
    )
    if not outside:
        return None
    said = [f"{_words(name, sd)} ({sd:+.1f} SD)" for name, sd in outside]
    return (
        f"the noise is unlike that of the training scans: {', '.join(said)}; it was denoised as the most similar noise "
        "would be, and the result may be too smooth or too noisy"
    )


def farthest_statistic(deviations: Mapping[str, float]) -> tuple[str, float]:
    """Return the statistic of a scan's noise that is farthest from the training scans, and its deviation [SD].

    Raises
    ------
    ValueError
        There is none.
    """
    return max(deviations.items(), key=lambda item: abs(item[1]))


def _words(name: str, deviation: float) -> str:
    known = _MEANING.get(name)
    if known is None:
        return f"{name} {'higher' if deviation > 0 else 'lower'}"
    return known[1] if deviation > 0 else known[2]
