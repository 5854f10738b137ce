"""Options that a command has because another has them: same names, same help, same defaults."""

import inspect
from collections.abc import Callable, Iterable

__all__ = ["with_options_of"]

Command = Callable[..., None]


def with_options_of(other: Command, names: Iterable[str]) -> Callable[[Command], Command]:
    """Return a decorator that adds parameters of another command, which the function gets as ``**options``.

    Raises
    ------
    KeyError
        The other command has no such parameter.
    """
    added = [inspect.signature(other).parameters[name] for name in names]

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*own, *added]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate
