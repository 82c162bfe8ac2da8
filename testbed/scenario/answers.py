"""Calls of a plug-in's functions; of an answer that cannot be used it is said which function gave it, and its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from testbed.errors import PolicyError

T = TypeVar("T")


def made(make: Callable[..., T], *arguments: Any) -> T:
    """Return what a plug-in's function makes of these arguments.

    Raises:
        PolicyError: it does not take so many.
    """
    try:
        return make(*arguments)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # raised by the call itself
            raise PolicyError(f"asking {_name(make)}", f"{error} ({_where(make)})", "fix the plug-in") from error
        raise


def hold(function: Callable[..., Any], wrong: str) -> None:
    """Refuse what a function returned, unless nothing is `wrong` with it.

    Raises:
        PolicyError: something is.
    """
    if wrong:
        raise PolicyError(f"asking {_name(function)}", f"it returned {wrong} ({_where(function)})", "fix the plug-in")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))


def _where(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code is not None else repr(function)
