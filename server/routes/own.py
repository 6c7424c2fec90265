"""The few parameters of routes that are no queries, checked as strictly as those of queries."""

from __future__ import annotations

from queries.errors import GrammarError, InvalidValueError, UnknownParameterError, nearest
from server.parameters import Pairs, first_value

MAX_COUNT = 2**63 - 1


class Own:
    """Parameters by name.

    Parameters
    ----------
    known
        The names that the route takes.
    """

    def __init__(self, pairs: Pairs, *known: str) -> None:
        self._pairs = pairs
        self._known = known

    def check(self) -> None:
        """Refuse what the route does not take, and what is given twice."""
        seen: set[str] = set()
        for name, value in self._pairs:
            if name not in self._known:
                takes = f"takes {', '.join(self._known)}" if self._known else "takes none"
                raise UnknownParameterError(
                    f"{name!r} is no parameter of this path, which {takes}",
                    param=name,
                    value=value,
                    did_you_mean=nearest(name, self._known),
                )
            if name in seen:
                raise GrammarError(f"{name} is given twice", param=name, value=value)
            seen.add(name)

    def text(self, name: str) -> str | None:
        """A parameter's text; None when it is not given, or empty."""
        return first_value(self._pairs, name) or None

    def refuse_empty(self, *names: str) -> None:
        """Refuse parameters that are given and say nothing."""
        for name in names:
            if first_value(self._pairs, name) == "":
                raise GrammarError(f"{name} is empty; leave it out, or say what", param=name, value="")

    def flag(self, name: str) -> bool:
        """Whether a switch is on: 1 and true, 0 and false, in any case; off when it is not given."""
        text = self.text(name)
        if text is not None and text.lower() not in ("0", "1", "false", "true"):
            raise InvalidValueError(f"{name} is 1 or 0, not {text!r}", param=name, value=text)
        return text is not None and text.lower() in ("1", "true")

    def count(self, name: str, default: int, *, most: int = MAX_COUNT) -> int:
        """A whole number from 0 to ``most``."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
            raise InvalidValueError(f"{name} is a whole number from 0 to {most}, not {text!r}", param=name, value=text)
        return int(text)
