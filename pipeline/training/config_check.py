"""Mistakes in a training's configuration, found before it starts.

MONAI takes an override of a key that nothing reads, and the last of two equal keys, without a word, and answers a
wrong type with a traceback an hour later.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import yaml

from pipeline.errors import PETError
from pipeline.files import read_yaml
from pipeline.training.config_values import (
    declared_kinds,
    expected_kinds,
    fits,
    is_free,
    is_number,
    kind_name,
    parameters_of,
    shown,
)

__all__ = ["checked_config", "parse_setting"]

# Read by MONAI itself, so they need nobody who refers to them.
_OF_MONAI = {"imports", "initialize", "run", "finalize", "_meta_"}
_REFERENCE = re.compile(r"@(\w+(?:(?:#|::)\w+)*)")


def parse_setting(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``; the value is YAML, and 1e-4 is a number.

    Raises
    ------
    PETError
        If there is no equals sign, no key, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise PETError(f"--set {text}: expected key=value, such as train#max_epochs=60")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PETError(f"--set {text}: the value is not YAML ({' '.join(str(error).split())})") from error
    if isinstance(parsed, str) and is_number(parsed):
        parsed = float(parsed)
    return key.strip(), parsed


def checked_config(
    base: Path, overlays: Sequence[Path] = (), settings: Sequence[tuple[str, Any]] = ()
) -> dict[str, Any]:
    """Merge a configuration with its overlays and settings as MONAI does, refusing what would go wrong later.

    Parameters
    ----------
    base
        Configuration file, YAML or JSON.
    overlays
        Files of keys, nested by ``#`` or ``::``, that replace, or with a leading ``+`` extend, what is there.
    settings
        Keys and values that come last.

    Returns
    -------
    dict
        The merged configuration.

    Raises
    ------
    PETError
        If a file cannot be read, a key stands twice, nothing reads a key, a value has another type than the one that
        it replaces, a section loses keys, or a reference leads nowhere.
    """
    config = _mapping(base)
    overrides: list[tuple[str, str, Any]] = []
    for path in overlays:
        content = _mapping(path)
        _refuse_twice([str(key) for key in content], where=str(path))
        overrides += [(str(path), str(key), value) for key, value in content.items()]
    _refuse_twice([key for key, _ in settings], where="--set")
    overrides += [("--set", key, value) for key, value in settings]

    merged = deepcopy(config)
    new = [(where, _split(key)) for where, key, value in overrides if _merge(merged, where, key, value)]
    referenced = set(_references(merged))
    for where, parts in new:
        if not _is_read(merged, parts, referenced):
            raise PETError(_unknown(config, where, parts))
    if (name := _dangling(merged)) is not None:
        where = ", ".join([str(base), *map(str, overlays)])
        raise PETError(f"{where}: refers to @{name}, which does not exist{_suggestion(merged, name)}")
    return merged


def _mapping(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise PETError(f"{path}: holds {kind_name(content)}, expected keys with values")
    return content


def _split(key: str) -> list[str]:
    return key.removeprefix("+").replace("::", "#").split("#")


def _refuse_twice(keys: list[str], *, where: str) -> None:
    names = ["#".join(_split(key)) for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise PETError(f"{where}: {name} stands twice, expected every key once")


def _merge(config: dict[str, Any], where: str, key: str, value: Any) -> bool:
    """Put a value in place; whether its key is new."""
    parts = _split(key)
    *path, last = parts
    if not _exists(config, path):
        raise PETError(_unknown(config, where, parts))
    parent = _at(config, path)
    is_new = not _exists(config, parts)
    if not isinstance(parent, dict) and (is_new or not isinstance(parent, list)):
        raise PETError(_unknown(config, where, parts))
    if is_new:
        cast(dict, parent)[last] = value
        return True
    position: Any = int(last) if isinstance(parent, list) else last
    old, name = parent[position], "#".join(parts)
    if key.startswith("+"):
        if isinstance(old, list) and isinstance(value, list):
            parent[position] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            parent[position] = {**old, **value}
        else:
            raise PETError(f"{where}: +{name} is {shown(value)}, expected {kind_name(old)} to extend one")
        return False
    _check_type(old, value, where=where, name=name, allowed=declared_kinds(parent, last))
    parent[position] = value
    return False


def _check_type(old: Any, new: Any, *, where: str, name: str, allowed: set[type]) -> None:
    """Refuse a value of another kind than the one that it replaces, or than the parameter declares."""
    if is_free(old) or is_free(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        _check_section(old, new, where=where, name=name)
        return
    kinds = allowed | {type(old)}
    if not fits(new, kinds):
        hint = " (YAML takes 1e-4 for text: write 1.0e-4)" if isinstance(new, str) and is_number(new) else ""
        example = "" if isinstance(old, dict | bool) else f" such as {old!r}"
        raise PETError(f"{where}: {name} is {shown(new)}, expected {expected_kinds(kinds)}{example}{hint}")
    if isinstance(old, list) and isinstance(new, list) and old:
        types = {type(item) for item in old}
        for item in new:
            if types <= {int, float, bool} and not (is_free(item) or fits(item, types)):
                raise PETError(f"{where}: {name} has {shown(item)} in it, expected {expected_kinds(types)}")


def _check_section(old: dict[str, Any], new: dict[str, Any], *, where: str, name: str) -> None:
    if "_target_" in old and "_target_" not in new:
        raise PETError(
            f"{where}: {name} has no _target_, expected one, or a single argument as {name}#{next(iter(old))}"
        )
    if "_target_" not in old and (lost := sorted(set(old) - set(new))):
        key = next(iter(new), "key")
        raise PETError(
            f"{where}: {name} would lose {', '.join(lost[:5])}, for a section is replaced as a whole; "
            f"expected single keys such as {name}#{key}"
        )
    parameters = parameters_of(new)
    for argument in new:
        if parameters is not None and not argument.startswith("_") and argument not in parameters:
            near = _nearest(argument, parameters)
            raise PETError(f"{where}: {name} has no argument {argument}{near}")


def _is_read(config: dict[str, Any], parts: list[str], referenced: set[str]) -> bool:
    """Whether anything reads a key: MONAI, the component whose argument it is, or a reference to it or around it."""
    if parts[0] in _OF_MONAI and len(parts) == 1:
        return True
    parameters = parameters_of(_at(config, parts[:-1]))
    if parameters is not None:
        return parts[-1] in parameters or parts[-1] in {"_requires_", "_disabled_", "_desc_", "_mode_"}
    name = "#".join(parts)
    around = {"#".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return bool(around & referenced) or any(reference.startswith(f"{name}#") for reference in referenced)


def _unknown(config: dict[str, Any], where: str, parts: list[str]) -> str:
    name = "#".join(parts)
    return f"{where}: unknown key {name}{_suggestion(config, name)}"


def _suggestion(config: dict[str, Any], name: str) -> str:
    known = list(_names(config))
    *path, last = name.split("#")
    # The slip is in the last part, or a key was named without its section, or it is anywhere.
    beside = [key for key in known if key.rpartition("#")[0] == "#".join(path)]
    parent = _at(config, path) if _exists(config, path) else None
    beside += [
        "#".join([*path, argument]) for argument in parameters_of(parent) or () if argument not in (parent or ())
    ]
    ends = {key.rpartition("#")[2]: key for key in reversed(known)}
    for choices in ({key.rpartition("#")[2]: key for key in beside}, ends):
        if found := difflib.get_close_matches(last, choices, n=1):
            return f", did you mean {choices[found[0]]}?"
    if found := difflib.get_close_matches(name, known, n=1):
        return f", did you mean {found[0]}?"
    return ""


def _nearest(argument: str, parameters: Mapping[str, Any]) -> str:
    found = difflib.get_close_matches(argument, parameters, n=1)
    return f", did you mean {found[0]}?" if found else f", expected one of {', '.join(parameters)}"


def _names(config: Any, prefix: str = "") -> Iterator[str]:
    for key, value in _items(config):
        name = f"{prefix}#{key}" if prefix else str(key)
        yield name
        yield from _names(value, name)


def _references(config: Any) -> Iterator[str]:
    if isinstance(config, str) and config[:1] in ("@", "$"):
        for reference in _REFERENCE.findall(config):
            yield reference.replace("::", "#")
    for _, value in _items(config):
        yield from _references(value)


def _dangling(config: dict[str, Any]) -> str | None:
    """First reference to nothing that a run would follow; those of what it does not need harm nobody."""
    to_visit: list[str] = [key for key in ("initialize", "training", "finalize") if key in config]
    seen = set(to_visit)
    while to_visit:
        name = to_visit.pop()
        if not _exists(config, name.split("#")):
            return name
        new = set(_references(_at(config, name.split("#")))) - seen
        seen |= new
        to_visit += sorted(new)
    return None


def _items(config: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(config, dict):
        yield from config.items()
    elif isinstance(config, list):
        yield from enumerate(config)


def _exists(config: Any, parts: Sequence[str]) -> bool:
    try:
        _at(config, parts)
    except (KeyError, IndexError, ValueError, TypeError):
        return False
    return True


def _at(config: Any, parts: Sequence[str]) -> Any:
    """What lies under a key; of a list, its parts are positions."""
    for part in parts:
        config = config[int(part)] if isinstance(config, list) else config[part]
    return config
