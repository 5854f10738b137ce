"""Compare readers of PET series on every branch of SUV, and write the table of docs/suv.md.

``python -m studies.suv_table`` makes the series, lets every installed tool read them, and puts the table between
the marks in docs/suv.md. Tools that are not installed are shown as such; ``pip install -c constraints.txt
-e .[compare]`` brings them.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path

from studies.suv_judgement import Judgement, Workbench
from studies.suv_kinds import KINDS, Kind
from studies.suv_readers import READERS, Reader

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "suv.md"

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

SOUND = next(kind for kind in KINDS if kind.name == "BQML, START, a slope per slice")

Column = tuple[Reader, Mapping[str, Judgement]]


def _cell(judgement: Judgement, reader: Reader) -> str:
    if judgement.verdict == "right":
        return "right" if reader.gives_suv else "raw"
    if judgement.verdict == "wrong":
        return f"wrong, warned: {judgement.figure}" if judgement.warned else f"**wrong**: {judgement.figure}"
    return {"not judged": "–"}.get(judgement.verdict, judgement.verdict)


def _counts(judgements: Mapping[str, Judgement]) -> str:
    counts = Counter(
        "wrong, warned" if judgement.verdict == "wrong" and judgement.warned else judgement.verdict
        for judgement in judgements.values()
    )
    if "not installed" in counts:
        return "not installed"
    order = ("right", "refused", "wrong, warned", "wrong")
    return " / ".join(str(counts[verdict]) for verdict in order)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(columns: Sequence[Column]) -> str:
    """Return the Markdown of all judgements, with the machine, the date and the versions."""
    lines = [
        f"Made by `python -m studies.suv_table` on {date.today():%d %B %Y}, {platform.system()} "
        f"{platform.machine()} with {os.cpu_count()} CPU cores, Python {platform.python_version()}. Versions: "
        + ", ".join(f"{reader.name} {reader.version}" for reader, _ in columns if reader.installed)
        + ".",
        "",
        _row(["kind of series", "SUV", "image", *(reader.name for reader, _ in columns)]),
        _row(["---"] * (len(columns) + 3)),
    ]
    for group, kinds in groupby(KINDS, key=lambda kind: kind.group):
        lines.append(_row([f"**{group}**", *[""] * (len(columns) + 2)]))
        for kind in kinds:
            cells = (_cell(judgements[kind.name], reader) for reader, judgements in columns)
            known = ("yes" if kind.suv else "no", "yes" if kind.images else "no")
            lines.append(_row([kind.name, *known, *cells]))
    totals = (_counts(judgements) for _, judgements in columns)
    lines.append(_row(["right / refused / wrong but warned / **silently wrong**", "", "", *totals]))
    return "\n".join(lines)


def compare(readers: Sequence[Reader], kinds: Sequence[Kind]) -> list[Column]:
    """Try every reader on every kind."""
    with tempfile.TemporaryDirectory() as name:
        folders = {kind.name: kind.write(Path(name, f"{number:02d}")) for number, kind in enumerate(kinds)}
        columns: list[Column] = []
        for reader in readers:
            bench = Workbench(reader, SOUND, folders[SOUND.name])
            columns.append((reader, {kind.name: bench.judge(kind, folders[kind.name]) for kind in kinds}))
            bench.close()
            print(f"{reader.name}: {_counts(columns[-1][1])}", file=sys.stderr)
        return columns


def main() -> int:
    """Write the table; the exit code is 1 if this project is wrong somewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="Markdown file with the two marks")
    document = parser.parse_args().document
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        parser.error(f"{document} does not hold {BEGIN} and {END}")
    columns = compare(READERS, KINDS)
    document.write_text(f"{before}{BEGIN}\n\n{table(columns)}\n\n{END}{after}", encoding="utf-8")
    return int(any(judgement.verdict == "wrong" for judgement in columns[0][1].values()))


if __name__ == "__main__":
    sys.exit(main())
