"""A benchmark is one file: what is wrong with it is said in one line."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.benchmark import own_definition, read_definition
from pipeline.benchmark.definition import PARTS
from pipeline.data import Manifest
from pipeline.data.manifest import Cohort, Recipe
from pipeline.pet import PETError

SOUND = {
    "title": "Small",
    "reference": "unipet",
    "filters": ["gaussian"],
    "tuning": [{"manifest": "simulated_v2", "split": "validation"}],
    "methods": {"unipet": {"weights": "shipped"}, "unet": {"seeds": 2}, "own": {"method": "own.yaml"}},
    "images": {"held_out": {"manifest": "m.yaml", "dose_reduction_factors": [4, 20]}},
    "samples": {"dose_reduction_factor": 20},
}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "m.yaml").write_text("")

    def written(**changes):
        path = tmp_path / "definition.yaml"
        path.write_text(yaml.safe_dump({**SOUND, **changes}, sort_keys=False))
        return path

    return written


def test_paths_are_relative_to_the_file(write, tmp_path):
    found = read_definition(write())
    assert found.images["held_out"].manifest == str(tmp_path / "m.yaml")
    assert Path(found.tuning[0].manifest).name == "simulated_v2.yaml"
    assert found.methods["own"].method == str(tmp_path / "own.yaml")
    assert found.parts == ("images", "samples", "cost")
    assert found.names == ["input", "gaussian", "unipet", "unet", "own"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": {}}, "methods: none is named"),
        ({"reference": "other"}, "reference: other is not among the methods"),
        ({"methods": {"unipet": {}, "gaussian": {}}}, "gaussian is the name of a competitor"),
        ({"methods": {"unipet": {"weights": "found"}}}, "methods.unipet.weights: Input should be"),
        ({"methods": {"unipet": {"weights": "shipped", "seeds": 2}}}, "2 seeds of weights that are shipped"),
        ({"methods": {"uni pet": {}}}, "String should match pattern"),
        ({"filters": ["median"]}, "filters.0: Input should be"),
        ({"images": {}}, "samples: there is no subject of images to show"),
        ({"images": {"held_out": {"manifest": "nowhere.yaml"}}}, "nowhere.yaml does not exist"),
        ({"images": {"held_out": {"manifest": "nowhere"}}}, "no manifest is called 'nowhere'"),
        ({"images": {"held_out": {"manifest": "m.yaml", "dose_reduction_factors": [1]}}}, "greater than 1"),
        ({"unseen": {"held_out": {"manifest": "m.yaml"}}}, "held_out is a condition of images too"),
        ({"real": {"one": {"path": "x", "scanner": "mct", "dose_reduction_factors": [4]}}}, "real.one.seed: Field"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"title": None}, "title: Input should be a valid string"),
    ],
)
def test_mistakes_end_in_one_line(write, changes, said):
    with pytest.raises(PETError) as caught:
        read_definition(write(**changes))
    assert said in str(caught.value)
    assert "definition.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "title: {", "a: 1\na: 2"])
def test_a_file_that_is_no_definition_is_refused(tmp_path, content):
    path = tmp_path / "definition.yaml"
    path.write_text(content)
    with pytest.raises(PETError, match=r"definition.yaml: "):
        read_definition(path)


def test_a_manifest_is_the_shipped_benchmark_on_its_subjects(tmp_path):
    cohorts = [Cohort(folder=f, split=f, n_subjects=1, seed=n) for n, f in enumerate(("test", "validation"))]
    for chosen, tuned in ((cohorts, ["validation"]), (cohorts[:1], [])):
        recipe = Recipe(dose_reduction_factors=(4,), cohorts=chosen)
        Manifest(name="ours", title="Our scanner", layout="simulated", recipe=recipe).write(tmp_path / "ours.yaml")
        found, own = read_definition(tmp_path / "ours.yaml"), read_definition(own_definition())
        assert found.methods == own.methods
        assert found.methods[found.reference].weights == "shipped"
        assert found.parts == ("images", "samples", "cost")
        [held_out] = found.images.values()
        assert (held_out.manifest, held_out.split) == (str(tmp_path / "ours.yaml"), "test")
        assert [source.split for source in found.tuning] == tuned
        assert found.filters == (own.filters if tuned else ())
        assert found.title.endswith("on Our scanner")
    assert not read_definition(tmp_path).filters


def test_a_manifest_with_a_mistake_is_refused_as_one(tmp_path):
    (tmp_path / "ours.yaml").write_text("{name: ours, title: Ours, layout: dicom}")
    with pytest.raises(PETError, match=r"ours\.yaml: layout: .*expected a manifest$"):
        read_definition(tmp_path / "ours.yaml")


def test_the_shipped_one_is_sound():
    found = read_definition(own_definition())
    assert found.limits
    for source in (*found.images.values(), *found.unseen.values(), *found.tuning):
        recipe = Manifest.from_file(source.manifest).recipe
        cohorts = {cohort.folder: cohort for cohort in recipe.cohorts if cohort.split == source.split}
        for folder, n in (source.cohorts or {}).items():
            assert n <= cohorts[folder].n_subjects
    [held_out] = found.images.values()
    assert sum(held_out.cohorts.values()) == 6
    assert held_out.dose_reduction_factors == (2, 4, 10, 20, 50, 100)
    assert {name for name, entry in found.methods.items() if entry.seeds == 2} == {
        *("unet", "unet_residual", "bdn", "unipet")
    }


def test_make_trains_what_the_definition_names(repository):
    found = read_definition(own_definition())
    wanted = {
        name if seed == 0 else f"{name}_seed{seed}"
        for name, entry in found.methods.items()
        if entry.weights == "trained"
        for seed in range(entry.seeds)
    }
    [listed] = re.findall(r"^TRAINED := (.*)$", (repository / "Makefile").read_text().replace("\\\n", ""), re.MULTILINE)
    assert set(listed.split()) == wanted - {"unet_residual_large"}  # that one needs a GPU


def test_the_example_of_the_document_is_sound(repository, tmp_path):
    text = (repository / "docs" / "benchmark.md").read_text(encoding="utf-8")
    [example] = re.findall(r"<!-- run by tests/benchmark/test_definition.py -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "ours.yaml").touch()
    (tmp_path / "benchmark.yaml").write_text(example)
    found = read_definition(tmp_path / "benchmark.yaml")
    assert found.methods["ours"].method == str(tmp_path / "ours_method.yaml")
    assert found.parts == ("images", "samples", "cost")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(PARTS)
