"""The layers: who may import whom, and that importing the package stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent

# Each part may import the parts named here, and itself.
ALLOWED = {
    "constants": set(),
    "errors": set(),
    "files": {"errors"},
    "tables": {"errors", "files"},
    "shipped": {"errors", "files"},
    "ending": {"errors"},
    "engine": {"errors", "files"},
    "memory": set(),
    "pet": {"errors", "files"},
    "images": {"constants", "errors", "pet"},
    "regions": {"errors", "files", "images", "pet", "tables"},
    "networks": {"constants"},
    "losses": {"constants"},
    "diffusion": set(),
    "transforms": {"constants", "pet"},
    "simulation": {"constants", "engine", "errors", "files", "images", "pet", "tables"},
    "evaluation": {"constants", "errors", "files", "images", "pet"},
    "trust": {"constants", "errors", "evaluation", "files", "images", "inference", "pet", "shipped", "simulation"},
    "data": {"engine", "errors", "files", "images", "pet", "shipped", "simulation"},
    "training": {
        "data",
        "diffusion",
        "errors",
        "files",
        "images",
        "losses",
        "networks",
        "pet",
        "shipped",
        "tables",
        "transforms",
    },
    "inference": {"constants", "diffusion", "errors", "files", "memory", "networks", "pet", "shipped", "transforms"},
    "report": {"errors", "evaluation", "files", "images", "pet", "trust"},
    "comparison": {
        *("data", "errors", "evaluation", "files", "images", "inference", "networks", "engine", "pet"),
        *("simulation", "transforms"),
    },
    "workflow": {
        *("data", "engine", "errors", "evaluation", "files", "images", "inference", "memory", "pet", "regions"),
        *("report", "simulation", "tables", "trust"),
    },
    "doors": {"errors", "files", "pet", "workflow"},
    "cohort": {
        *("data", "engine", "errors", "files", "inference", "memory", "pet", "report", "tables"),
        "workflow",
    },
    "adaptation": {
        *("comparison", "data", "errors", "evaluation", "files", "images", "inference", "pet", "report", "shipped"),
        *("simulation", "tables", "training", "workflow"),
    },
    "benchmark": {
        *("comparison", "constants", "data", "errors", "evaluation", "files", "images", "inference", "networks", "pet"),
        *("engine", "report", "shipped", "simulation", "tables", "training", "transforms"),
    },
    "cli": {
        *(
            "adaptation",
            "benchmark",
            "cohort",
            "comparison",
            "data",
            "doors",
            "errors",
            "evaluation",
            "files",
            "inference",
            "pet",
            "ending",
            "engine",
            "regions",
            "shipped",
        ),
        *("simulation", "tables", "training", "workflow"),
    },
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    return parts


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    part = part_of(path)
    assert part in ALLOWED, f"{part} is new: say here what it may import"
    assert imported_parts(path) - {part} <= ALLOWED[part]


@pytest.mark.parametrize("part", ["pet", "images", "regions", "simulation", "evaluation", "report", "trust"])
def test_these_parts_need_no_torch(part):
    for path in (PACKAGE / part).rglob("*.py"):
        if path.name == "torch_backend.py":  # imported when a device is asked for, and only then
            continue
        source = path.read_text(encoding="utf-8")
        assert "import torch" not in source, f"{path} imports torch"
        assert "import monai" not in source, f"{path} imports monai"


def test_importing_the_package_loads_neither_torch_nor_monai():
    code = "import sys, pipeline, pipeline.cli; print(sorted({'torch', 'monai', 'scipy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
