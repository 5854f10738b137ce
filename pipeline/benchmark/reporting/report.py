"""From stored results to what a person reads: tables in Markdown and TSV, and one page."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.benchmark.definition import PARTS, Definition
from pipeline.benchmark.reporting.claims import CLAIMS, MEASURES, Claim, ClaimLine, answer_claims, claim_frame
from pipeline.benchmark.reporting.columns import columns_of
from pipeline.benchmark.reporting.findings import Findings
from pipeline.benchmark.reporting.shown import cost_figures, curve_figures, phantom_figures, sample_figures
from pipeline.benchmark.reporting.tables import all_tables, difference_frame, summary_frame
from pipeline.benchmark.results import read_results
from pipeline.comparison import ResultTable, as_markdown
from pipeline.errors import PETError
from pipeline.files import replaced_file, write_text
from pipeline.report import PageFigure, write_benchmark_page
from pipeline.tables import write_table

__all__ = ["RULE", "claim_table", "measured_tables", "write_reports"]

RULE = (
    "Yes: the 95 % interval of the paired difference, method minus other, all doses together, subjects drawn with "
    "replacement, excludes 0 as claimed. No: it excludes 0 in the other direction. Images are judged by PSNR against "
    "noise-free, uncertainty by coverage. With few subjects such intervals are too narrow. Trainings from another seed "
    "have lines of their own."
)


def write_reports(definition: Definition, output: Path) -> list[Path]:
    """Write tables and page of the results that are stored below a folder; return their paths.

    ``benchmark.md`` holds all tables, ``benchmark.html`` the page, ``figures`` its figures as PNG, and the TSV files
    ``table`` the one table, ``differences``, ``claims``, and every row that was measured, each with its dictionary.

    Raises
    ------
    PETError
        If there are no results, one is damaged, or the folder cannot be written.
    """
    # What an earlier definition had and this one has not is left out.
    results = [stored for stored in read_results(output) if stored.row["entry"] in definition.names]
    if not results:
        raise PETError(f"{output}: has no result of a method of this benchmark, expected one at least")
    findings = Findings(definition, results)
    lines = answer_claims(findings)
    tables = all_tables(findings)
    claims = claim_table(lines)
    budgets = _budgets(findings)
    rule = _rule(lines)
    preface = f"# {definition.title}\n\n{_summary(findings)} {rule}"
    markdown = output / "benchmark.md"
    shown = [table for table in (claims, *tables, budgets) if table.rows]
    write_text(markdown, as_markdown(shown, preface=preface))
    written = [markdown]
    frames = {"table": summary_frame(findings).reset_index(), "differences": difference_frame(findings)}
    frames |= {"claims": claim_frame(lines), **dict(measured_tables(findings))}
    written += [
        write_table(frame, output / f"{name}.tsv", columns=columns_of(name))
        for name, frame in frames.items()
        if not frame.empty
    ]
    curves = [*curve_figures(findings), *phantom_figures(findings), *cost_figures(findings)]
    images = sample_figures(findings)
    page = write_benchmark_page(
        output / "benchmark.html",
        title=definition.title,
        summary=_summary(findings),
        limits=[*findings.mixtures, *definition.limits],
        rule=rule,
        claims=asdict(claims),
        main_table=asdict(tables[0]),
        curves=curves,
        images=images,
        tables=[asdict(table) for table in tables[1:]],
        budgets=asdict(budgets),
        run=_run(findings),
    )
    return [*written, page, *_figure_files([*curves, *images], output / "figures")]


def _figure_files(figures: Sequence[PageFigure], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{figure.name}.png" for figure in figures]
    for path, figure in zip(paths, figures, strict=True):
        with replaced_file(path) as temporary:
            temporary.write_bytes(figure.png)
    return paths


def claim_table(lines: Sequence[ClaimLine]) -> ResultTable:
    """Return the answers: a row for each claim that was measured and pair of seeds, its figures over all doses."""
    rows = []
    measured = _measured_claims(lines)
    for claim in (claim for claim in CLAIMS if claim in measured):
        of_claim = [line for line in lines if line.claim is claim]
        for seed in sorted({line.seed for line in of_claim}):
            first, *others = [line for line in of_claim if line.seed == seed and line.doses == "all"]
            at = [f"{x.answer} {x.doses}" for x in of_claim if (x.seed, x.measure) == (seed, first.measure)]
            names = (claim.text, claim.source) if seed == 0 else (f"the same, seed {seed}", "")
            beside = "; ".join(_figures(line) for line in others if line.interval is not None)
            rows.append((*names, first.answer, _figures(first), _by_answer(at[1:]), beside))
    header = ("claim", "source", "answer", "by", "at single doses", "beside it")
    return ResultTable("The claims, answered", header, tuple(rows), 6)


def _measured_claims(lines: Sequence[ClaimLine]) -> set[Claim]:
    return {line.claim for line in lines if line.interval is not None}


def _rule(lines: Sequence[ClaimLine]) -> str:
    """Return how claims are answered, and how many are not."""
    n = len({line.claim for line in lines}) - len(_measured_claims(lines))
    return f"{RULE} Claims of the literature that were not measured, as claims.tsv says: {n}." if n else RULE


def _by_answer(answers: Sequence[str]) -> str:
    """Return such as "yes: DRF 2, 4; cannot tell: DRF 10"."""
    groups: dict[str, list[str]] = {}
    for text in answers:
        answer, _, factor = text.rpartition(" DRF ")
        groups.setdefault(answer, []).append(factor)
    return "; ".join(f"{answer}: DRF {', '.join(factors)}" for answer, factors in groups.items())


def _figures(line: ClaimLine) -> str:
    name = MEASURES[line.measure][0]
    if line.interval is None:
        return name
    return f"{name}: {line.interval.mean:+.2f} ({line.interval.low:+.2f} to {line.interval.high:+.2f})"


def _summary(findings: Findings) -> str:
    rows = findings.rows
    parts = [part for part in PARTS if any(stored.part == part for stored in findings.results)]
    n_networks = rows.loc[rows["kind"] == "network", "entry"].nunique()
    n_filters = int((rows["kind"] == "filter").sum())
    found = findings.images
    subjects = "" if found is None else f" on {_counted(found.n_subjects, 'held-out subject')}"
    methods = f"{_counted(n_networks, 'network')} and {_counted(n_filters, 'filter')}"
    return f"{methods}{subjects}; parts measured: {', '.join(parts)}."


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _budgets(findings: Findings) -> ResultTable:
    """Return what the weights of each network were trained with; one that lacks its budget is seen here."""
    rows = []
    for _, row in findings.rows[findings.rows["kind"] == "network"].iterrows():
        training: dict[str, Any] = row["facts"].get("training", {})
        if row["dose"] == "read":
            continue
        seen, hours = training.get("n_patches"), training.get("hours")
        rows.append(
            (
                str(row["label"]),
                str(row["facts"].get("weights_sha256") or "none")[:12],
                "–" if seen is None else f"{seen:,}".replace(",", " "),
                str(training.get("batch_size", "–")),
                "–" if hours is None else f"{hours:.2f}",
                str(training.get("seed", "–")),
            )
        )
    header = ("method", "SHA-256 of the weights", "patches seen", "batch", "hours of training", "seed")
    return ResultTable("Training", header, tuple(rows), 2)


def measured_tables(findings: Findings) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield every table that was measured as it is written, with its name: all parts but the images of the samples."""
    for part in (name for name in PARTS if name != "samples"):
        names = {name for stored in findings.results if stored.part == part for name in stored.tables}
        for name in sorted(names):
            frame = findings.table(part, name)
            lists = [column for column in frame if frame[column].map(lambda value: isinstance(value, list)).any()]
            yield part if name == part else f"{part}_{name}", frame.drop(columns=lists)


def _data(definition: Definition) -> str:
    """Return which subjects are measured, by condition."""
    conditions = {**definition.images, **definition.unseen}
    texts = []
    for name, source in conditions.items():
        cohorts = ", ".join(f"{folder} ({n})" for folder, n in (source.cohorts or {}).items())
        texts.append(f"{name}: {Path(source.manifest).stem}, split {source.split}{', ' if cohorts else ''}{cohorts}")
    texts += [f"{name}: noise of {scan.scanner} inserted, seed {scan.seed}" for name, scan in definition.real.items()]
    return "; ".join(texts)


def _run(findings: Findings) -> dict[str, object]:
    """Return with what the results were measured; of several values all."""
    runs = [stored.run for stored in findings.results]
    keys = dict.fromkeys(key for run in runs for key in run)
    facts = {key.replace("_", " "): sorted({str(run[key]) for run in runs if key in run}) for key in keys}
    seeds = sorted({int(seed) for seed in findings.rows["seed"]})
    shown: dict[str, object] = {"data": _data(findings.definition)}
    shown |= {key: ", ".join(values) for key, values in facts.items()}
    return shown | {"seeds": ", ".join(map(str, seeds))}
