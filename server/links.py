"""The URLs that an answer names: itself, itself pinned to a version, its next page. All are relative to the host."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from server.parameters import Pairs, format_pairs


@dataclass(frozen=True, slots=True)
class Address:
    """A path and the decoded parameters behind it."""

    path: str
    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, path: str, pairs: Pairs) -> Address:
        return cls(path, tuple(pairs))

    def having(self, **parameters: str | None) -> Address:
        """The same with these parameters set, or left out where None; those that are there keep their place."""
        kept = [
            (key, parameters[key] or "") if key in parameters else (key, value)
            for key, value in self.pairs
            if key not in parameters or parameters[key] is not None
        ]
        present = {key for key, _ in kept}
        added = [(key, value) for key, value in parameters.items() if value is not None and key not in present]
        return Address(self.path, (*kept, *added))

    @property
    def url(self) -> str:
        """The path, and the query string when there are parameters."""
        path = quote(self.path, safe="/:@!$&'()*+,;=~")
        return f"{path}?{format_pairs(self.pairs)}" if self.pairs else path


def rows_address(dataset: str, pairs: Pairs) -> Address:
    """The general query of a dataset."""
    return Address.of(f"/api/datasets/{dataset}/rows", pairs)
