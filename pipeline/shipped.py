"""What comes along with the package: the bundle and the manifests of data sets."""

import shutil
from pathlib import Path

from pipeline.errors import PETError
from pipeline.files import read_yaml

__all__ = ["copy_bundle", "method_files", "method_names", "own_bundle", "own_manifest", "work_folder"]

_PACKAGE = Path(__file__).resolve().parent


def _shipped(installed: str, in_checkout: str) -> Path:
    """Return the folder inside the installed package, or the one of the checkout that the package is run from."""
    folder = _PACKAGE / installed
    return folder if folder.is_dir() else _PACKAGE.parent / in_checkout


def own_bundle() -> Path:
    """Return the folder of the bundle that comes along with this package.

    The working directory is not searched: a configuration is code, and a command that names no bundle must not run
    one that happens to lie there.

    Raises
    ------
    PETError
        If the installation is incomplete.
    """
    folder = _shipped("bundle", "bundles/unipet_3d")
    if not (folder / "configs" / "metadata.json").is_file():
        raise PETError(f"{folder}: has no configs/metadata.json, the installation of unipet_3d is incomplete")
    return folder


def copy_bundle(bundle: Path, folder: Path) -> None:
    """Copy what belongs to a bundle into an existing folder; data and results that lie in it do not."""
    for name in ("LICENSE", "configs", "docs", "models"):
        item = bundle / name
        if item.is_dir():
            shutil.copytree(item, folder / name)
        elif item.exists():
            shutil.copy(item, folder)


def own_manifest(name: str) -> str:
    """Return the path of a manifest that comes along with this package, such as "simulated_v2".

    Raises
    ------
    PETError
        If no manifest has that name.
    """
    folder = _shipped("data_manifests", "data_manifests")
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise PETError(f"no manifest is called {name!r}, expected one of {', '.join(known)}")
    return str(path)


def method_names(bundle: str | Path) -> list[str]:
    """Return the names of a bundle's methods, those of the files in ``configs/methods``; UniPET comes first."""
    names = sorted(path.stem for path in (Path(bundle) / "configs" / "methods").glob("*.yaml"))
    return sorted(names, key=lambda name: name != "unipet")


def method_files(bundle: str | Path, method: str) -> list[Path]:
    """Return the file of a method and, before it, those that it is based on.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    method
        Name of a file in ``configs/methods``, or the path of a file that ends with ``.yaml``.

    Raises
    ------
    PETError
        If this is no bundle, there is no such method, a file cannot be read, or it is based on itself.
    """
    files: list[Path] = []
    name: str | None = method
    while name is not None:
        path = Path(name) if name.endswith(".yaml") else Path(bundle) / "configs" / "methods" / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(method_names(bundle))
            if not known:
                raise PETError(f"{bundle}: not a bundle, configs/methods is missing")
            raise PETError(f"unknown method {name!r}, expected one of {known}, or the path of a YAML file")
        if path in files:
            raise PETError(f"{path}: is based on itself, expected another method")
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise PETError(f"{path}: holds no keys with values, expected those of a method")
        files.insert(0, path)
        name = content.get("based_on")
    return files


def work_folder(bundle: str | Path) -> str:
    """Return the folder in which runs of a bundle keep their data and results by default.

    That is the bundle's own folder, as MONAI has it. If the bundle is part of an installation, where nothing must be
    written, it is the working directory.
    """
    folder = Path(bundle).resolve()
    return str(Path.cwd() if folder == _PACKAGE / "bundle" else folder)
