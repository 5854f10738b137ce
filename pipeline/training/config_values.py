"""Values of a configuration: of what kind they are, and what the component that gets them takes."""

import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from pydoc import locate
from types import NoneType, UnionType
from typing import Any

__all__ = ["declared_kinds", "expected_kinds", "fits", "is_free", "is_number", "kind_name", "parameters_of", "shown"]

_KINDS = {
    NoneType: "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a section",
}


def parameters_of(component: Any) -> Mapping[str, inspect.Parameter] | None:
    """Parameters of what a component builds; None for what is no component, or takes any argument."""
    target = component.get("_target_") if isinstance(component, dict) else None
    built = _located(target) if isinstance(target, str) else None
    if built is None:
        return None
    parameters = inspect.signature(built).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_any else parameters


def _located(target: str) -> Any:
    """What a ``_target_`` names; None for MONAI's short names, which may be ambiguous, and for what is not there."""
    try:
        return locate(target) if "." in target else None
    except Exception:  # an import of somebody else's module may raise anything; MONAI will say what
        return None


def declared_kinds(parent: Any, argument: str) -> set[type]:
    """Kinds of YAML values that the parameter's annotation allows; none where it says nothing that is known here."""
    parameters = parameters_of(parent)
    if parameters is None or argument not in parameters:
        return set()
    annotation = parameters[argument].annotation
    is_union = typing.get_origin(annotation) in (typing.Union, UnionType)
    kinds = set()
    for kind in typing.get_args(annotation) if is_union else (annotation,):
        origin = typing.get_origin(kind) or kind
        if origin in _KINDS:
            kinds.add(origin)
        elif inspect.isclass(origin) and issubclass(origin, Sequence):
            kinds.add(list)
    return kinds


def fits(value: Any, kinds: set[type]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        return bool({int, float} & kinds)
    if isinstance(value, float):
        return float in kinds
    return value is None or type(value) in kinds


def is_free(value: Any) -> bool:
    """Whether a value may become anything: nothing, an expression, a reference, a part of another file."""
    return value is None or (isinstance(value, str) and value[:1] in ("$", "@", "%"))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_name(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({kind_name(value)})"


def expected_kinds(kinds: Iterable[type]) -> str:
    """Names of kinds for a person: a whole number or a list."""
    return " or ".join(name for kind, name in _KINDS.items() if kind in set(kinds))
