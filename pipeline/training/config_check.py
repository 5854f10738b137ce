"""Mistakes in a training's configuration, found before it starts.

MONAI takes an override of a key that nothing reads, and the last of two equal keys, without a word, and answers a
wrong type with a traceback an hour later.
"""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any, cast

import yaml

from pipeline.errors import PETError
from pipeline.files import read_yaml

__all__ = ["checked_config", "needed_keys", "parse_setting"]

_RUN = ("initialize", "training", "finalize")
# Read by MONAI itself, or by inference in a method's file.
_READ_ELSEWHERE = {"imports", "initialize", "run", "finalize", "_meta_", "based_on", "weights", "voxel_size"}
_REFERENCE = re.compile(r"@(\w+(?:(?:#|::)\w+)*)")
_MISSING = object()
_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a section",
}


def parse_setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``; the value is YAML, and 1e-4 is a number.

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
    return key.strip(), float(parsed) if _is_number(parsed) else parsed


def checked_config(
    base: Path, overlays: Sequence[Path] = (), settings: Sequence[tuple[str, Any]] = ()
) -> dict[str, Any]:
    """Merge a configuration with its overlays and settings as MONAI does, and refuse what would go wrong later.

    The files are YAML or JSON. Keys of overlays are nested by ``#`` or ``::`` and replace, or with a leading ``+``
    extend, what is there; the keys and values of `settings` come last.

    Raises
    ------
    PETError
        If a file cannot be read, a key stands twice, nothing reads a key, a value has another type than the one that
        it replaces, a section loses keys, or a reference leads nowhere.
    """
    merged = _mapping(base)
    overrides = [(str(path), str(key), value) for path in overlays for key, value in _mapping(path).items()]
    overrides += [("--set", key, value) for key, value in settings]
    for where in dict.fromkeys(where for where, _, _ in overrides):
        _refuse_twice(where, ["#".join(_split(key)) for source, key, _ in overrides if source == where])
    new = [(where, _split(key)) for where, key, value in overrides if _merge(merged, where, key, value)]
    needed = needed_keys(merged, ", ".join(map(str, [base, *overlays])))
    for where, parts in new:
        if not _is_read(merged, parts):
            raise PETError(_unknown(merged, where, parts))
    for where in dict.fromkeys(where for where, _, _ in overrides):
        _refuse_idle(merged, where, [_split(key) for source, key, _ in overrides if source == where], needed)
    return merged


def needed_keys(config: Mapping[str, Any], where: str) -> set[str]:
    """Return every key that a training refers to, directly or not.

    Raises
    ------
    PETError
        If one does not exist; references of what the training does not need harm nobody.
    """
    to_visit = [key for key in _RUN if key in config]
    seen = set(to_visit)
    while to_visit:
        name = to_visit.pop()
        if (value := _at(config, name.split("#"))) is _MISSING:
            raise PETError(f"{where}: refers to @{name}, which does not exist{_suggestion(config, name.split('#'))}")
        found = _references(value) - seen
        seen |= found
        to_visit += sorted(found)
    return seen


def _mapping(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise PETError(f"{path}: holds {_kind(content)}, expected keys with values")
    return content


def _split(key: str) -> list[str]:
    return key.removeprefix("+").replace("::", "#").split("#")


def _refuse_twice(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise PETError(f"{where}: {name} stands twice, expected every key once")


def _merge(config: dict[str, Any], where: str, key: str, value: Any) -> bool:
    """Put a value in place; return whether its key is new."""
    *path, last = parts = _split(key)
    parent, name = _at(config, path), "#".join(parts)
    if _at(config, parts) is _MISSING:
        if not isinstance(parent, dict):
            raise PETError(_unknown(config, where, parts))
        parent[last] = value
        return True
    position: Any = int(last) if isinstance(parent, list) else last
    old = parent[position]
    if not key.startswith("+"):
        _check_type(old, value, where=where, name=name, is_argument=_parameters(parent) is not None)
        parent[position] = value
    elif isinstance(old, list) and isinstance(value, list):
        parent[position] = [*old, *value]
    elif isinstance(old, dict) and isinstance(value, dict):
        parent[position] = {**old, **value}
    else:
        raise PETError(f"{where}: +{name} is {_shown(value)}, expected {_kind(old)} to extend one")
    return False


def _check_type(old: Any, new: Any, *, where: str, name: str, is_argument: bool) -> None:
    """Refuse a value of another kind than the one that it replaces. A component checks its own lists and sections."""
    if _is_free(old) or _is_free(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        _check_section(old, new, where=where, name=name)
        return
    if is_argument and isinstance(old, list | dict):
        return
    if not _fits(new, type(old)):
        hint = " (YAML takes 1e-4 for text: write 1.0e-4)" if _is_number(new) else ""
        example = "" if isinstance(old, dict | bool) else f" such as {old!r}"
        raise PETError(f"{where}: {name} is {_shown(new)}, expected {_kind(old)}{example}{hint}")
    for item in new if isinstance(old, list) and old and isinstance(old[0], int | float) else ():
        if not (_is_free(item) or _fits(item, type(old[0]))):
            raise PETError(f"{where}: {name} has {_shown(item)} in it, expected {_kind(old[0])}")


def _check_section(old: dict[str, Any], new: dict[str, Any], *, where: str, name: str) -> None:
    if "_target_" in old and "_target_" not in new:
        raise PETError(
            f"{where}: {name} has no _target_, expected one, or a single argument as {name}#{next(iter(old))}"
        )
    if "_target_" not in old and (lost := sorted(set(old) - set(new))):
        raise PETError(
            f"{where}: {name} would lose {', '.join(lost[:5])}, for a section is replaced as a whole; "
            f"expected single keys such as {name}#{next(iter(new), 'key')}"
        )
    parameters = _parameters(new)
    if parameters is None:
        return
    for argument in new:
        if not argument.startswith("_") and argument not in parameters:
            near = difflib.get_close_matches(argument, parameters, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(parameters)}"
            raise PETError(f"{where}: {name} has no argument {argument}, {hint}")


def _is_read(config: dict[str, Any], parts: list[str]) -> bool:
    """Return whether anything reads a key: MONAI, the component whose argument it is, or a reference."""
    if parts[0] in _READ_ELSEWHERE and len(parts) == 1:
        return True
    parameters = _parameters(_at(config, parts[:-1]))
    if parameters is not None:
        return parts[-1] in parameters or parts[-1] in {"_requires_", "_disabled_", "_desc_", "_mode_"}
    references = _references(config)
    name, around = "#".join(parts), {"#".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return bool(around & references) or any(reference.startswith(f"{name}#") for reference in references)


def _refuse_idle(config: dict[str, Any], where: str, keys: list[list[str]], needed: set[str]) -> None:
    """Refuse a setting of a stage that this training does not have; a file for several methods may hold such."""
    of_stages = [parts for parts in keys if len(parts) > 1 and _at(config, [parts[0], "stage"]) is not _MISSING]
    idle = [parts for parts in of_stages if f"{parts[0]}#stage" not in needed]
    if idle and (where == "--set" or len(idle) == len(keys)):
        stages = sorted(key.partition("#")[0] for key in needed if key.endswith("#stage"))
        name = "#".join(idle[0])
        raise PETError(
            f"{where}: {name} is of a stage that this method does not run, expected one of {', '.join(stages)}"
        )


def _unknown(config: Mapping[str, Any], where: str, parts: list[str]) -> str:
    return f"{where}: unknown key {'#'.join(parts)}{_suggestion(config, parts)}"


def _suggestion(config: Mapping[str, Any], parts: list[str]) -> str:
    """Return what was meant: a key beside, an argument of the component, or a key without its section."""
    *path, last = parts
    known = [name for name, _ in _walk(config) if name != "#".join(parts)]
    beside = [name for name in known if name.split("#")[:-1] == path]
    beside += ["#".join([*path, argument]) for argument in _parameters(_at(config, path)) or ()]
    for choices in (beside, known):
        ends = {name.rpartition("#")[2]: name for name in reversed(choices)}
        if found := difflib.get_close_matches(last, ends, n=1):
            return f", did you mean {ends[found[0]]}?"
    return ""


def _parameters(component: Any) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of what a component builds; None for what is no component, or takes any argument."""
    target = component.get("_target_") if isinstance(component, dict) else None
    if not isinstance(target, str) or "." not in target:  # MONAI's short names may be ambiguous
        return None
    try:
        parameters = inspect.signature(cast(Any, locate(target))).parameters
    except Exception:  # noqa: BLE001 - an import of somebody else's module may raise anything; MONAI will say what
        return None
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_any else parameters


def _fits(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def _is_free(value: Any) -> bool:
    """Return whether a value may become anything: nothing, an expression, a reference, a part of another file."""
    return value is None or (isinstance(value, str) and value[:1] in ("$", "@", "%"))


def _is_number(value: Any) -> bool:
    """Return whether a value is a text that reads as a number."""
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({_kind(value)})"


def _walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, nested by ``#``, and its value."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        name = f"{prefix}#{key}" if prefix else str(key)
        yield name, value
        if isinstance(value, dict | list):
            yield from _walk(value, name)


def _references(value: Any) -> set[str]:
    texts = [v for _, v in _walk(value)] if isinstance(value, dict | list) else [value]
    found = [_REFERENCE.findall(text) for text in texts if isinstance(text, str) and text[:1] in ("@", "$")]
    return {reference.replace("::", "#") for references in found for reference in references}


def _at(config: Any, parts: Sequence[str]) -> Any:
    """Return what lies under a key, or _MISSING; of a list, its parts are positions."""
    try:
        for part in parts:
            config = config[int(part)] if isinstance(config, list) else config[part]
    except (KeyError, IndexError, ValueError, TypeError):
        return _MISSING
    return config
