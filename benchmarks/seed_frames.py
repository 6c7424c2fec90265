"""The pandas half of the seed's way: read, filter, reshape, and rows as dicts. Knows no HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def read(path: Path) -> pd.DataFrame:
    """All of a file, as on each request of the seed."""
    return pd.read_parquet(path)


def select(frame: pd.DataFrame, data_source: str | None, params: str | None, metric: str | None) -> pd.DataFrame:
    """The rows of one recipe, some sizes and some metrics; None selects all."""
    keep = np.ones(len(frame), dtype=bool)
    if data_source is not None:
        keep &= (frame["data"] == data_source).to_numpy(dtype=bool)
    if params is not None:
        keep &= frame["params"].isin(params.split(",")).to_numpy(dtype=bool)
    if metric is not None:
        keep &= frame["metric"].isin(metric.split(",")).to_numpy(dtype=bool)
    return frame[keep]


def unmelt(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per checkpoint, one column per metric."""
    keys = ["params", "data", "step", "tokens", "compute"]
    return frame.pivot(index=keys, columns="metric", values="value").reset_index()


def aggregate(frame: pd.DataFrame, keys: list[str], functions: list[str]) -> pd.DataFrame:
    """``value`` by ``keys``; a function is one of pandas' names, or a percentile such as ``p95``."""
    groups = frame.groupby(keys)["value"]
    columns = {
        name: groups.quantile(int(name[1:]) / 100) if name[:1] == "p" and name[1:].isdigit() else groups.agg(name)
        for name in functions
    }
    return pd.DataFrame(columns).reset_index()


def scaling(frame: pd.DataFrame, metric: str, by: str) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """A metric at the last step of each run against its size; for each ``by`` the line through their logarithms."""
    rows = frame[frame["metric"] == metric]
    points = rows.loc[rows.groupby(["params", "data"])["step"].idxmax()].dropna(subset=["value"])
    x = points["params"].str[:-1].astype(float) * points["params"].str[-1].map(_MULTIPLES)
    shown = points[["params", "data", "step"]].assign(x=x, y=points["value"])
    fits = []
    for name, group in shown.groupby(by):
        slope, intercept = np.polyfit(np.log(group["x"]), np.log(group["y"]), 1)
        fits.append({"group": {by: name}, "params": {"slope": float(slope), "intercept": float(intercept)}})
    return shown, fits


def counts(frame: pd.DataFrame, columns: list[str]) -> dict[str, list[dict[str, Any]]]:
    """For each column its values and how many rows have them."""
    return {
        name: [{"value": value, "count": int(count)} for value, count in frame[name].value_counts().items()]
        for name in columns
    }


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts that JSON can carry: NaN and NaT are None, arrays are lists."""
    nested = [name for name in frame.columns if _is_nested(frame[name])]
    plain = frame.astype(object).where(frame.notna(), None)
    for name in nested:
        plain[name] = frame[name].map(lambda cell: cell.tolist() if isinstance(cell, np.ndarray) else None)
    return plain.to_dict("records")  # type: ignore[return-value]  # the names are all strings


def _is_nested(column: pd.Series) -> bool:
    first = column.first_valid_index() if column.dtype == object else None
    return first is not None and isinstance(column[first], np.ndarray)
