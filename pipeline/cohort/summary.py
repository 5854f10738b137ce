"""What all scans of a cohort say together: a table of regions, one of scans, one of failures, and a page."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.cohort.status import CohortIndex, read_index, states_of
from pipeline.files import remove_unfinished, write_json
from pipeline.report import OUTLYING, CohortScan, outlyingness, write_cohort_page
from pipeline.tables import write_table
from pipeline.workflow.places import ResultFiles, files_of_state, root_locked
from pipeline.workflow.scan_state import LOGS, STATES, ScanState, digest_of

__all__ = ["FAILED_COLUMNS", "SCAN_COLUMNS", "write_summary"]

SCAN_COLUMNS = {
    "scan": "name of the scan, the same in all of its tables; of one that failed, that of its log",
    "status": "done or failed",
    "result": "folder of the result in that of all results",
    "n_voxels": "number of voxels",
    "noise_before_percent": "noise of the body before denoising, relative to its mean SUV [%]",
    "noise_after_percent": "noise of the body after denoising, relative to its mean SUV [%]",
    "noise_change_percent": "change of the noise of the body [%]",
    "suv_mean_before": "mean SUV of the body before denoising [g/mL]",
    "suv_mean_after": "mean SUV of the body after denoising [g/mL]",
    "suv_mean_change_percent": "change of the mean SUV of the body [%]",
    "n_regions": "number of regions of high uptake",
    "n_kept": "number of lesions that both images have, each with regions of its own",
    "n_lost": "number of lesions that only the image before denoising has",
    "n_new": "number of lesions that only the image after denoising has",
    "tmtv_before_ml": "total volume of the regions before denoising, physiological uptake included [mL]",
    "tmtv_after_ml": "the same after denoising, each image in regions of its own [mL]",
    "tmtv_change_percent": "change of it [%]",
    "tlg_change_percent": "change of the total lesion glycolysis, each image in regions of its own [%]",
    "suv_max_change_percent": "median over the regions of the change of SUVmax [%]",
    "suv_peak_change_percent": "median over the regions of the change of SUVpeak [%]",
    "largest_suv_peak_change_percent": "change of SUVpeak of the region where it changed most [%]",
    "n_outside_of_training": "number of properties in which the scan is unlike those of the training",
    "n_warnings": "number of warnings of the run, which its record and its report say",
    "outlyingness": "largest distance from the median of all scans, in robust standard deviations; a scan of more than "
    f"{OUTLYING:g} is an outlier",
    "outlying_in": "the column in which the scan is farthest from the others",
    "seconds": "time that the scan took [s]",
}
"""Meaning of the columns of ``scans.tsv``."""

FAILED_COLUMNS = {
    "scan": "name of the scan, that of its log",
    "source": "path of the scan, as it was given or in the folder of all",
    "reason": "why there is no result",
    "log": "the log of the scan, in the folder of all results",
}
"""Meaning of the columns of ``failed.tsv``, which alone among the tables names the sources."""

_WORDS = {
    "threshold": "from SUV {:g} g/mL on",
    "delineation": "drawn by {}",
    "min_volume": "of at least {:g} mL",
    "fwhm": "smoothed by {:g} mm",
    "n": "{} of each scan",
    "scanner": "as on {}",
    "attenuation": "attenuation of {}",
    "report": "page of each scan",
    "keep_private": "private attributes kept",
    "deidentify": "de-identified",
    "units": "DICOM in {}",
}
"""Options in words, where their names and values do not say enough."""

_FILES = ("cohort.tsv", "cohort.json", "scans.tsv", "scans.json", "failed.tsv", "failed.json", "cohort.html")


def write_summary(output_dir: Path) -> None:
    """Write ``cohort.tsv``, ``scans.tsv``, ``failed.tsv`` and ``cohort.html`` of a cohort, unless they are up to date.

    Raises
    ------
    PETError
        There is no cohort, or a file cannot be written.
    """
    index = read_index(output_dir)
    with root_locked(output_dir):
        remove_unfinished(output_dir)
        states = states_of(output_dir, index)
        records = {key: files.record() for key, files in _results(output_dir, index, states)}
        told = digest_of(
            [_FILES, index.made, sorted((key, str(state)) for key, state in states.items()), _made(records)]
        )
        stamp = output_dir / STATES / "summary.json"
        if _stamp(stamp) == told and all((output_dir / name).is_file() for name in _FILES):
            return
        _write(output_dir, index, states, records)
        write_json(stamp, {"summary_of": told})


def _made(records: Mapping[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    return sorted((key, record.get("started")) for key, record in records.items())


def _stamp(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["summary_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _results(
    output_dir: Path, index: CohortIndex, states: Mapping[str, ScanState | None]
) -> Iterator[tuple[str, ResultFiles]]:
    """Yield the results by the key of their scans; one of two scans of the same voxels once."""
    seen: set[tuple[str, str]] = set()
    for key, state in states.items():
        if state is not None and state.outcome == "done" and (state.folder, state.file_name) not in seen:
            seen.add((state.folder, state.file_name))
            yield key, files_of_state(output_dir, state, index.layout)


def _write(
    output_dir: Path,
    index: CohortIndex,
    states: Mapping[str, ScanState | None],
    records: Mapping[str, dict[str, Any]],
) -> None:
    results = dict(_results(output_dir, index, states))
    regions, meanings = _regions(results)
    failed = {key: state for key, state in states.items() if state is not None and state.outcome == "failed"}
    by_scan = dict(list(regions.groupby("scan"))) if len(regions) else {}
    rows = [
        _row(files, records[key], by_scan.get(files.scan), files.folder.relative_to(output_dir).as_posix())
        for key, files in results.items()
    ]
    scans = pd.DataFrame(rows, columns=list(SCAN_COLUMNS))
    scans[["outlyingness", "outlying_in"]] = outlyingness(scans)
    scans = scans.sort_values("outlyingness", ascending=False, kind="stable", na_position="last")
    unmade = pd.DataFrame([{"scan": key, "status": "failed"} for key in failed], columns=list(SCAN_COLUMNS))
    all_scans = pd.concat([unmade, scans], ignore_index=True) if len(unmade) else scans
    write_table(regions, output_dir / "cohort.tsv", columns=meanings)
    write_table(all_scans, output_dir / "scans.tsv", columns=SCAN_COLUMNS)
    reasons = [
        {"scan": key, "source": state.name, "reason": state.reason, "log": f"{LOGS}/{key}.log"}
        for key, state in failed.items()
    ]
    write_table(pd.DataFrame(reasons, columns=list(FAILED_COLUMNS)), output_dir / "failed.tsv", columns=FAILED_COLUMNS)
    outside = Counter(name for record in records.values() for name in record.get("trust", {})["outside_of_training"])
    write_cohort_page(
        output_dir / "cohort.html",
        scans=[
            CohortScan(values=row, report=_report(results, row["scan"], output_dir)) for row in scans.to_dict("records")
        ],
        table=scans,
        regions=regions,
        failures={key: state.nameless for key, state in failed.items()},
        n_left=sum(state is None for state in states.values()),
        outside=outside.most_common(),
        run={
            key: options_in_words(value) if isinstance(value, dict) else value
            for key, value in index.facts.items()
            if value not in (None, {}, "")
        },
    )


def options_in_words(options: Mapping[str, Any]) -> str:
    """Return options of `DenoiseOptions.record` as a reader wants them, in one line."""
    found = []
    for name, value in options.items():
        word = _WORDS.get(name, name.replace("_", " ") + ("" if isinstance(value, bool | dict) else " {}"))
        if isinstance(value, dict):
            found.append(f"{word}: {options_in_words(value).replace('; ', ', ')}")
        elif isinstance(value, bool):
            found.append(word if value else f"no {word}")
        else:
            found.append(word.format(value))
    return "; ".join(found)


def _regions(results: Mapping[str, ResultFiles]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the regions of all results, and the meanings of the columns."""
    meanings: dict[str, str] = {"scan": SCAN_COLUMNS["scan"]}
    texts: dict[str, list[str]] = {}
    for files in results.values():
        header, _, rows = files.file("lesions.tsv").read_text(encoding="utf-8").partition("\n")
        if header not in texts:
            described = json.loads(files.file("lesions.json").read_text(encoding="utf-8"))
            for name in header.split("\t"):
                entry = described.get(name, {"Description": name})
                unit = f" [{entry['Units']}]" if "Units" in entry else ""
                meanings.setdefault(name, entry["Description"] + unit)
        texts.setdefault(header, []).append(rows)
    tables = [
        pd.read_csv(io.StringIO(text), sep="\t", na_values="n/a", keep_default_na=False)
        for text in ("".join([header, "\n", *rows]) for header, rows in texts.items())
    ]
    full = [table for table in tables if len(table)] or tables[:1]
    regions = pd.concat(full, ignore_index=True) if full else pd.DataFrame({"scan": []})
    return regions, meanings


def _row(files: ResultFiles, record: Mapping[str, Any], regions: pd.DataFrame | None, folder: str) -> dict[str, Any]:
    body, trust = record["body"], record["trust"]
    row: dict[str, Any] = {
        "scan": files.scan,
        "status": "done",
        "result": folder,
        "n_voxels": int(np.prod(record["shape"])),
        "n_regions": 0 if regions is None else len(regions),
        **{f"n_{fate}": number for fate, number in record["matches"]["after with before"].items()},
        "n_outside_of_training": len(trust["outside_of_training"]),
        "n_warnings": len(record["warnings"]),
        "seconds": round(sum(record["seconds"].values()), 2),
    }
    for when in ("before", "after"):
        row |= {f"noise_{when}_percent": body[f"noise_{when}"], f"suv_mean_{when}": body[f"mean_{when}"]}
    row |= {"noise_change_percent": body["noise_change"], "suv_mean_change_percent": body["mean_change"]}
    row |= _burden(files)
    if regions is not None:
        peak = regions["suv_peak_change_percent"].dropna()
        row["suv_max_change_percent"] = regions["suv_max_change_percent"].median()
        row["suv_peak_change_percent"] = peak.median()
        row["largest_suv_peak_change_percent"] = peak.loc[peak.abs().idxmax()] if len(peak) else None
    return row


def _burden(files: ResultFiles) -> dict[str, float]:
    """Return what all regions of a scan amount to, each image in regions of its own."""
    with files.file("burden.tsv").open(encoding="utf-8", newline="") as file:
        own = {row["image"]: row for row in csv.DictReader(file, delimiter="\t") if row["outlines"] == "own"}
    found = {f"tmtv_{when}_ml": own[when]["tmtv_ml"] for when in ("before", "after")}
    found |= {name: own["after"][name] for name in ("tmtv_change_percent", "tlg_change_percent")}
    return {name: float("nan") if text == "n/a" else float(text) for name, text in found.items()}


def _report(results: Mapping[str, ResultFiles], scan: str, output_dir: Path) -> str:
    """Return where the page of a scan lies, relative to that of the cohort; empty if it has none."""
    files = next(files for files in results.values() if files.scan == scan)
    page = files.file("report.html")
    return page.relative_to(output_dir).as_posix() if page.is_file() else ""
