"""A straight line by ordinary least squares, with standard errors. Sums are exactly rounded: alike on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """``y = slope · x + intercept``, fitted to ``n`` points.

    Standard errors are None with two points, which leave nothing to estimate the scatter from. ``r2`` is None when y
    does not vary. ``objective`` is the sum of squared residuals.
    """

    n: int
    slope: float
    intercept: float
    slope_error: float | None
    intercept_error: float | None
    r2: float | None
    objective: float
    residuals: tuple[float, ...]


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Fit a line to finite points; None with fewer than two different x.

    The textbook formulas, e.g. Draper and Smith, *Applied Regression Analysis*, chapter 1: slope Sxy/Sxx, residual
    variance RSS/(n − 2), its share of Sxx for the slope's error.
    """
    n = len(x)
    if len(set(x)) < 2:
        return None
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    dx = [value - mean_x for value in x]
    dy = [value - mean_y for value in y]
    sxx = math.fsum(value * value for value in dx)
    syy = math.fsum(value * value for value in dy)
    slope = math.fsum(a * b for a, b in zip(dx, dy, strict=True)) / sxx
    intercept = mean_y - slope * mean_x
    residuals = tuple(b - slope * a for a, b in zip(dx, dy, strict=True))
    rss = math.fsum(value * value for value in residuals)
    variance = rss / (n - 2) if n > 2 else None
    return Line(
        n=n,
        slope=slope,
        intercept=intercept,
        slope_error=None if variance is None else math.sqrt(variance / sxx),
        intercept_error=None if variance is None else math.sqrt(variance * (1 / n + mean_x * mean_x / sxx)),
        r2=1 - rss / syy if syy > 0 else None,
        objective=rss,
        residuals=residuals,
    )
