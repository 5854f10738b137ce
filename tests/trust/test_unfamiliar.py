"""Words for noise that training did not have."""

from pipeline.networks.noise.statistics import NOISE_STATISTICS
from pipeline.trust import style_rows, unfamiliar_noise

NOTHING = dict.fromkeys(NOISE_STATISTICS, -2.9)


def test_familiar_noise_needs_no_words():
    assert unfamiliar_noise({}) is None
    assert unfamiliar_noise(NOTHING) is None
    assert not any(row["outside"] for row in style_rows(NOTHING))


def test_the_farthest_statistic_comes_first_with_its_deviation():
    line = unfamiliar_noise({**NOTHING, "quiet": -3.5, "coarse": 4.21})
    assert "\n" not in line
    assert "more correlated between voxels (+4.2 SD), weaker (-3.5 SD);" in line
    assert line.endswith("the result may be too smooth or too noisy")


def test_every_statistic_of_the_networks_has_words():
    for name in NOISE_STATISTICS:
        above, below = (unfamiliar_noise({name: sd}) for sd in (4.0, -4.0))
        assert name + " higher" not in above
        assert above.replace("+4.0", "-4.0") != below
    assert [row["name"] for row in style_rows(NOTHING)] == list(NOISE_STATISTICS)


def test_no_two_statistics_have_the_same_words():
    rows = style_rows(NOTHING)
    assert len({row["meaning"] for row in rows}) == len(rows)
    said = {unfamiliar_noise({name: sd}) for name in NOISE_STATISTICS for sd in (4.0, -4.0)}
    assert len(said) == 2 * len(NOISE_STATISTICS)


def test_a_statistic_without_words_is_named():
    assert "texture higher (+9.0 SD)" in unfamiliar_noise({"texture": 9.0})
