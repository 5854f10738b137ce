"""Claims are answered by paired intervals: yes, no, cannot tell, and not measured."""

import pytest

from pipeline.benchmark.reporting.claims import CLAIMS, answer_claims, claim_frame
from pipeline.benchmark.reporting.report import claim_table
from pipeline.benchmark.results import Stored
from tests.benchmark.findings_by_hand import findings_of, images_of, row_of

UNIVERSAL = CLAIMS[0]


def line(findings, claim=UNIVERSAL, measure="psnr_noise_free", doses="all", seed=0):
    lines = [x for x in answer_claims(findings) if (x.claim, x.measure, x.seed) == (claim, measure, seed)]
    return next(x for x in lines if x.doses == doses)


@pytest.mark.parametrize(
    ("gains", "answer"),
    [((1.0, 1.2, 0.8), "yes"), ((-1.0, -1.2, -0.8), "no"), ((1.0, -1.2, 0.8), "cannot tell")],
)
def test_the_answer_follows_from_the_interval(gains, answer):
    found = line(findings_of(images_of("unipet", gains), images_of("unet", (0, 0, 0))))
    assert found.answer == answer
    assert found.interval.mean == pytest.approx(sum(gains) / 3)
    assert found.interval.low >= min(gains) - 1e-9
    assert found.interval.high <= max(gains) + 1e-9


def test_a_smaller_error_is_better():
    findings = findings_of(images_of("unipet", (0, 0, 0), error=5), images_of("unet", (0, 0, 0), error=8))
    found = line(findings, measure="suv_mean_error_percent")
    # The lesion of 8 mm is left out.
    assert (found.answer, found.interval.mean) == ("yes", pytest.approx(-3.0))


def test_what_was_not_measured_is_said():
    assert line(findings_of(images_of("unipet", (1, 1, 1)))).answer == "not measured"
    unseen = next(claim for claim in CLAIMS if claim.part == "unseen")
    both = findings_of(images_of("unipet", (1, 1, 1)), images_of("unet", (0, 0, 0)))
    assert line(both, claim=unseen).answer == "not measured"


def test_unseen_doses_are_their_own_condition():
    unseen = next(claim for claim in CLAIMS if claim.part == "unseen")
    results = [images_of(n, (g, g, g), part="unseen", condition="doses") for n, g in (("unipet", -1), ("unet", 0))]
    results += [images_of(n, (g, g, g), part="unseen", condition="tracers") for n, g in (("unipet", 9), ("unet", 0))]
    assert line(findings_of(*results), claim=unseen).answer == "no"


def test_each_dose_and_each_pair_of_seeds_has_a_line():
    names = ("unipet", "unet", "unipet_seed1", "unet_seed1")
    results = [images_of(n, (g, g, g)) for n, g in zip(names, (1.0, 0.0, -2.0, 0.0), strict=True)]
    findings = findings_of(*results)
    assert line(findings, doses="DRF 20").answer == "yes"
    assert line(findings, seed=1).answer == "no"
    table = claim_table(answer_claims(findings))
    by = "PSNR against noise-free [dB]: "
    assert [row[:1] + row[2:5] for row in table.rows[:2]] == [
        (UNIVERSAL.text, "yes", f"{by}+1.00 (+1.00 to +1.00)", "yes: DRF 4, 20"),
        ("the same, seed 1", "no", f"{by}-2.00 (-2.00 to -2.00)", "no: DRF 4, 20"),
    ]
    assert "PSNR against full dose [dB]: +1.00" in table.rows[0][5]


def test_a_method_told_the_dose_stands_for_itself():
    told, read = images_of("unet_specific", (0, 0, 0)), images_of("unet_specific_dose_read", (9, 9, 9))
    told = type(told)(told.part, row_of("unet_specific", dose="stated"), told.run, told.tables)
    read = type(read)(
        read.part, row_of("unet_specific_dose_read", entry="unet_specific", dose="read"), read.run, read.tables
    )
    specific = next(claim for claim in CLAIMS if claim.other == "unet_specific")
    findings = findings_of(images_of("unipet", (1, 1, 1)), told, read)
    assert line(findings, claim=specific).interval.mean == pytest.approx(1.0)


def test_the_frame_holds_every_line():
    findings = findings_of(images_of("unipet", (1, 1, 1)), images_of("unet", (0, 0, 0)))
    frame = claim_frame(answer_claims(findings))
    measured = frame[frame["answer"] != "not measured"]
    assert set(measured["claim"]) == {UNIVERSAL.text}
    # Four measures over all and at two doses; the texture of both is the same, which tells nothing.
    assert len(measured) == 12
    assert set(measured.loc[measured["measure"].str.contains("texture"), "answer"]) == {"cannot tell"}


def coverage_of(name, origin, covered, correlation, **row):
    rows = [
        {
            **{"subject": f"s{subject}", "dose_reduction_factor": 4.0, "region": region, "origin": origin},
            **{"intervals": intervals, "coverage_95": covered - 0.01 * subject, "rank_correlation": correlation},
        }
        for subject in range(3)
        for region in ("body", "liver")
        for intervals in ("as stated", "one factor")
    ]
    return Stored("uncertainty", row_of(name, **row), {}, {"coverage": rows})


def test_uncertainty_is_judged_by_coverage():
    ensemble = {"entry": "unet", "kind": "ensemble"}
    findings = findings_of(
        coverage_of("ddpm3d", "draws", 0.93, 0.5),
        coverage_of("ddpm3d", "residual", 0.20, 0.5),  # draws are there, so this does not count
        coverage_of("unet_ensemble", "draws", 0.61, 0.3, **ensemble),
        coverage_of("ddpm2d", "draws", 0.93, 0.6),
        coverage_of("unet", "draws", 0.94, 0.6),
    )
    of = {claim.other: claim for claim in CLAIMS if claim.part == "uncertainty"}
    found = line(findings, claim=of["unet"], measure="coverage_error")
    assert (found.answer, found.interval.mean) == ("yes", pytest.approx(3 - 35))
    assert line(findings, claim=of["ddpm2d"], measure="coverage_error").answer == "cannot tell"
    assert line(findings, claim=of["ddpm2d"], measure="rank_correlation").answer == "no"
    assert line(findings, claim=of["gan3d"], measure="coverage_error").answer == "not measured"


def test_parts_of_different_weights_are_told():
    first, second = images_of("unet", (1, 1, 1)), images_of("unet", (1, 1, 1), part="unseen")
    other = Stored("unseen", row_of("unet", facts={"weights_sha256": "b"}), {}, second.tables)
    assert findings_of(first, second).mixtures == []
    [sentence] = findings_of(first, other).mixtures
    assert sentence.startswith("unet: its parts were measured with 2 different weights")


def test_detection_is_answered_by_the_gain_on_the_noisy_input():
    together = {"diameter": "all", "level": "all", "site": "all", "auc": 0.8}
    gains = {4.0: (-0.02, -0.03, -0.01), 20.0: (-0.04, -0.09, 0.004)}
    rows = [
        {"dose_reduction_factor": f, **together, "gain": g, "gain_low": low, "gain_high": high}
        for f, (g, low, high) in gains.items()
    ]
    # A single size is not the answer.
    rows.append({**rows[0], "diameter": "7", "gain": 0.5, "gain_low": 0.4, "gain_high": 0.6})
    findings = findings_of(
        images_of("unipet", (1, 1, 1)), Stored("detection", row_of("unipet"), {}, {"detection": rows})
    )
    claim = next(c for c in CLAIMS if (c.part, c.method) == ("detection", "unipet"))
    answers = {x.doses: (x.answer, x.interval) for x in answer_claims(findings) if x.claim is claim}
    assert {doses: answer for doses, (answer, _) in answers.items()} == {
        "all": "no",
        "DRF 4": "no",
        "DRF 20": "cannot tell",
    }
    mean = answers["all"][1]
    assert (mean.mean, mean.low, mean.high) == pytest.approx((-0.03, -0.06, -0.003))
