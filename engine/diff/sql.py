"""The SQL that compares two versions. Names in it are numbered, or quoted names of columns; it holds no values.

``b0, b1, …`` are the compared cells before, ``a0, …`` after, ``k0, …`` the key, and ``d0, …`` whether a cell differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.connection import quoted
from engine.diff.columns import Shared
from queries.schema import Kind

LARGEST = 5  # changes listed of each metric
MAX_METRICS = 1_000
MAX_CELLS = 48  # compared in one pass: of 480, what one vector of each takes is more than a query may have


@dataclass(frozen=True, slots=True)
class Tables:
    """Two relations and how to compare them.

    ``ordinal`` names the column of the later one that numbers its rows. ``repeated`` says that some keys stand in
    several rows of a version: those are left out of what goes by key, and are all that ``multiset`` looks at.
    """

    before: str
    after: str
    keys: tuple[Shared, ...]
    cells: tuple[Shared, ...]
    ordinal: str
    repeated: bool = False

    # --- keys that are not unique

    def repeats(self, *, is_after: bool) -> str:
        """How many keys stand in several rows of one side, and in how many rows."""
        return (
            "SELECT count(*) AS keys, coalesce(sum(n), 0)::BIGINT AS rows "
            f"FROM (SELECT count(*) AS n {self._grouped(is_after)})"
        )

    def _grouped(self, is_after: bool) -> str:
        keys = ", ".join(one.sql(is_after=is_after) for one in self.keys)
        return f"FROM {self._relation(is_after)} GROUP BY {keys} HAVING count(*) > 1"

    def _with(self) -> str:
        if not self.repeated:
            return "WITH "
        sides = (f"SELECT {self._key_list(is_after)} {self._grouped(is_after)}" for is_after in (False, True))
        return f"WITH repeated AS MATERIALIZED ({' UNION '.join(sides)}), "

    # --- by key

    def summary(self, metric: Shared | None, measured: Sequence[int]) -> str:
        """Counts of rows and changed cells, and what became of the cells numbered ``measured``.

        One row, or one for each value of ``metric``, the most changed first, with totals over all of them.
        """
        kinds = {
            "added": "in_b IS NULL",
            "removed": "in_a IS NULL",
            "changed": f"in_a AND in_b AND ({self._any_differs()})",
            "unchanged": f"in_a AND in_b AND NOT ({self._any_differs()})",
        }
        counts = [f"count(*) FILTER ({condition}) AS {name}" for name, condition in kinds.items()]
        counts += [f"count(*) FILTER (d{at}) AS c{at}" for at in range(len(self.cells))]
        counted = [*kinds, *(f"c{at}" for at in range(len(self.cells)))]
        deltas = [f"CAST(a{at} AS DOUBLE) - CAST(b{at} AS DOUBLE) AS y{at}" for at in measured]
        finite = [f"CASE WHEN d{at} AND isfinite(y{at}) THEN y{at} END AS x{at}" for at in measured]
        grouped = ", ".join([f"{self._group(metric)} AS m", *counts, *(self._measures(at) for at in measured)])
        totals = ", ".join(f"(sum({name}) OVER ())::BIGINT AS all_{name}" for name in counted)
        return (
            f"{self._with()}j AS ({self._joined('FULL')}), "
            f"y AS (SELECT {', '.join(['*', *self._differences(), *deltas])} FROM j), "
            f"x AS (SELECT {', '.join(['*', *finite])} FROM y), "
            f"g AS (SELECT {grouped} FROM x{' GROUP BY m' if metric else ''}) "
            f"SELECT *, {totals}, count(*) FILTER (added + removed + changed > 0) OVER () AS groups "
            f"FROM g ORDER BY added + removed + changed DESC, m NULLS LAST LIMIT {MAX_METRICS}"
        )

    def batches(self, cells: Iterable[Shared]) -> list[Tables]:
        """The same for some of the cells, in parts of a width that a query has the memory for; at least one part."""
        listed = tuple(cells)
        starts = range(0, max(len(listed), 1), MAX_CELLS)
        return [replace(self, cells=listed[start : start + MAX_CELLS]) for start in starts]

    def numbers(self, among: Sequence[Shared] | None = None) -> list[int]:
        """Which of the cells are numbers; of those columns alone, where some are given."""
        chosen = [(at, one) for at, one in enumerate(self.cells) if among is None or one in among]
        return [at for at, one in chosen if one.kind.is_numeric]

    def count_changed(self, batches: Sequence[Tables]) -> str:
        """How many rows changed in any of the cells of the batches."""
        return f"{self._changed(batches)} SELECT count(*) AS n FROM (SELECT DISTINCT o FROM c)"

    def find_changed(self, batches: Sequence[Tables]) -> str:
        """The ordinals, in the later version, of the first rows that changed, in the order of the key."""
        keys = [f"k{at}" for at in range(len(self.keys))]
        return f"{self._changed(batches)} SELECT o FROM (SELECT DISTINCT * FROM c) ORDER BY {_ordered(keys)} LIMIT $1"

    def _changed(self, batches: Sequence[Tables]) -> str:
        keys = ", ".join(f"k{at}" for at in range(len(self.keys)))
        selects = [
            f"SELECT {keys}, o FROM (SELECT {', '.join(['*', *part._differences()])} FROM ({part._joined('INNER')})) "
            f"WHERE {part._any_differs()}"
            for part in batches
        ]
        return f"{self._with()}c AS ({' UNION ALL '.join(selects)})"

    def rows(self) -> str:
        """Rows of both versions by their ordinals in the later one: keys, cells before and after, differs."""
        keys = [f"k{at}" for at in range(len(self.keys))]
        listed = [f"{prefix}{at}" for prefix in "bad" for at in range(len(self.cells))]
        joined = self._joined("INNER", "WHERE a.o IN (SELECT unnest($1::BIGINT[]))")
        return (
            f"{self._with()}j AS ({joined}), x AS (SELECT {', '.join(['*', *self._differences()])} FROM j) "
            f"SELECT {', '.join([*keys, *listed])} FROM x ORDER BY {_ordered(keys)}"
        )

    def only(self, names: Sequence[str], *, is_after: bool) -> str:
        """The rows, whole, whose keys the other side does not have."""
        keys = [f"k{at}" for at in range(len(self.keys))]
        own = ", ".join([self._key_list(is_after), *(f"{quoted(name)} AS r{at}" for at, name in enumerate(names))])
        others = f"SELECT {self._key_list(not is_after)} FROM {self._relation(not is_after)}"
        unrepeated = f" ANTI JOIN repeated r ON {self._same_key('s', 'r')}" if self.repeated else ""
        return (
            f"{self._with()}o AS ({others}) SELECT {', '.join(f's.r{at}' for at in range(len(names)))} "
            f"FROM (SELECT {own} FROM {self._relation(is_after)}) s ANTI JOIN o ON {self._same_key('s', 'o')}"
            f"{unrepeated} ORDER BY {_ordered(f's.{key}' for key in keys)} LIMIT $1"
        )

    def _joined(self, kind: str, where: str = "") -> str:
        keys = [f"CASE WHEN a.in_a THEN a.k{at} ELSE b.k{at} END AS k{at}" for at in range(len(self.keys))]
        cells = [f"{side}.{side}{at}" for side in "ba" for at in range(len(self.cells))]
        return (
            f"SELECT {', '.join([*keys, *cells, 'a.o', 'b.in_b', 'a.in_a'])} FROM ({self._side(False)}) b "
            f"{kind} JOIN ({self._side(True)}) a ON {self._same_key('b', 'a')} {where}"
        )

    def _side(self, is_after: bool) -> str:
        side = "a" if is_after else "b"
        cells = [f"{one.sql(is_after=is_after)} AS {side}{at}" for at, one in enumerate(self.cells)]
        ordinal = [f"{quoted(self.ordinal)} AS o"] if is_after else []
        columns = ", ".join([self._key_list(is_after), *cells, *ordinal, f"true AS in_{side}"])
        select = f"SELECT {columns} FROM {self._relation(is_after)}"
        if not self.repeated:
            return select
        return f"SELECT s.* FROM ({select}) s ANTI JOIN repeated r ON {self._same_key('s', 'r')}"

    def _differences(self) -> list[str]:
        return [f"coalesce({_differs(one, at)}, false) AS d{at}" for at, one in enumerate(self.cells)] or ["1 AS one"]

    def _any_differs(self) -> str:
        return " OR ".join(f"d{at}" for at in range(len(self.cells))) or "false"

    def _group(self, metric: Shared | None) -> str:
        if metric is None:
            return "NULL"
        if metric in self.keys:
            return f"k{self.keys.index(metric)}"
        at = self.cells.index(metric)
        return f"CASE WHEN in_a THEN a{at} ELSE b{at} END"

    def _measures(self, at: int) -> str:
        keys = ", ".join(f"k{position} := k{position}" for position in range(len(self.keys)))
        packed = f"struct_pack(z := -abs(x{at}), {keys}, b := b{at}, a := a{at}, x := x{at})"
        return (
            f"count(*) FILTER (x{at} > 0) AS up{at}, count(*) FILTER (x{at} < 0) AS down{at}, "
            f"count(*) FILTER (d{at} AND x{at} IS NULL) AS undefined{at}, "
            # favg: a sum that hardly depends on the order of the rows, which a join that spills may change
            f"favg(abs(x{at})) AS mean{at}, max(abs(x{at})) AS max{at}, "
            f"min({packed}, {LARGEST}) FILTER (x{at} IS NOT NULL) AS top{at}"
        )

    # --- as whole rows

    @property
    def columns(self) -> tuple[Shared, ...]:
        """All that whole rows are compared by."""
        return (*self.keys, *self.cells)

    def multiset_counts(self) -> str:
        """How many more times each row stands on one side than on the other, added up."""
        counts = (("na - nb", "added"), ("nb - na", "removed"))
        listed = [f"coalesce(sum(greatest({count}, 0)), 0)::BIGINT AS {name}" for count, name in counts]
        same = "coalesce(sum(least(na, nb)), 0)::BIGINT AS unchanged"
        return f"{self._multiset()} SELECT {', '.join([*listed, same])} FROM m"

    def multiset_only(self, *, is_after: bool) -> str:
        """The rows that stand more often on one side, as often as that."""
        values = [f"v{at}" for at in range(len(self.columns))]
        more = "na - nb" if is_after else "nb - na"
        order = [*values, *(f"z{at}" for at in self._floats()), "n"]
        return (
            f"{self._multiset()}, e AS (SELECT *, unnest(range(least({more}, $1))) AS n FROM m WHERE {more} > 0) "
            f"SELECT {', '.join(values)} FROM e ORDER BY {_ordered(order)} LIMIT $1"
        )

    def _multiset(self) -> str:
        groups = ", ".join([f"v{at}" for at in range(len(self.columns))] + [f"z{at}" for at in self._floats()])
        both = " UNION ALL ".join(self._counted(is_after) for is_after in (False, True))
        return (
            f"{self._with()}u AS ({both}), "
            f"m AS (SELECT {groups}, sum(nb)::BIGINT AS nb, sum(na)::BIGINT AS na FROM u GROUP BY {groups})"
        )

    def _counted(self, is_after: bool) -> str:
        values = [f"{one.sql(is_after=is_after)} AS v{at}" for at, one in enumerate(self.columns)]
        signs = [f"CASE WHEN v{at} = 0 THEN signbit(v{at}) END AS z{at}" for at in self._floats()]
        keys = [self._key_list(is_after)] if self.repeated else []
        inner = f"SELECT {', '.join([*values, *keys])} FROM {self._relation(is_after)}"
        among = f" SEMI JOIN repeated r ON {self._same_key('s', 'r')}" if self.repeated else ""
        listed = [f"v{at}" for at in range(len(self.columns))]
        counts = "0 AS nb, 1 AS na" if is_after else "1 AS nb, 0 AS na"
        return f"SELECT {', '.join([*listed, *signs, counts])} FROM ({inner}) s{among}"

    def _floats(self) -> list[int]:
        return [at for at, one in enumerate(self.columns) if one.kind is Kind.FLOAT]

    # --- parts

    def _relation(self, is_after: bool) -> str:
        return quoted(self.after if is_after else self.before)

    def _key_list(self, is_after: bool) -> str:
        return ", ".join(f"{one.sql(is_after=is_after)} AS k{at}" for at, one in enumerate(self.keys))

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.k{at} IS NOT DISTINCT FROM {right}.k{at}" for at in range(len(self.keys)))


def _differs(one: Shared, at: int) -> str:
    """Whether a cell differs: NaN is NaN, null is null, and 0.0 is not -0.0, which SQL takes for equal."""
    differs = f"b{at} IS DISTINCT FROM a{at}"
    if one.kind is Kind.FLOAT:
        differs = f"({differs} OR (a{at} = 0 AND signbit(a{at}) <> signbit(b{at})))"
    return f"in_a AND in_b AND {differs}"


def _ordered(names: Iterable[str]) -> str:
    return ", ".join(f"{name} NULLS LAST" for name in names)
