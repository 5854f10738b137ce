"""The names that others rely on."""

import importlib
import inspect
import pkgutil

import pytest

import pipeline

SUBPACKAGES = [name for _, name, is_package in pkgutil.iter_modules(pipeline.__path__) if is_package]


def test_top_level_names():
    assert set(pipeline.__all__) == {"Denoiser", "PETError", "PETHeader", "PETSeries", "__version__", "read_pet"}
    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = pipeline.nothing_of_the_kind


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackages_export_what_they_say(name):
    module = importlib.import_module(f"pipeline.{name}")
    assert module.__doc__
    for exported in module.__all__:
        assert hasattr(module, exported), f"pipeline.{name}.{exported}"


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_public_names_are_documented(name):
    module = importlib.import_module(f"pipeline.{name}")
    for exported in module.__all__:
        item = getattr(module, exported)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert inspect.getdoc(item), f"pipeline.{name}.{exported}"


def test_promised_signatures():
    from pipeline.networks import UniPET
    from pipeline.pet import PETError

    assert issubclass(PETError, ValueError)
    assert list(inspect.signature(pipeline.read_pet).parameters) == ["path", "sidecar", "series"]
    assert list(inspect.signature(UniPET.from_released_state_dict).parameters) == ["state_dict"]
    for field in ("suv", "affine", "header"):
        assert field in pipeline.PETSeries.__dataclass_fields__
