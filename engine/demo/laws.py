"""The invented half: scaling laws, recipe offsets and noise from which every value of the demo data follows.

The loss of recipe r on domain m, in nats per token, is ``E_m + e_rm + s_m (a_r A / N^alpha + b_r B / D^beta)`` with
A = 406.4, B = 410.7, alpha = 0.34, beta = 0.28 (Hoffmann et al., arXiv 2203.15556, eq. 10), so a fit finds exponents
that are known. Accuracies rise from chance along a sigmoid of that same reducible loss. Writes no file.

Every array is seeds × recipes × checkpoints (3 × 25 × 337); checkpoints run by size, then by step.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from engine.demo.facts import PERPLEXITIES, PRIMARY, RECIPES, SEEDS, SIZES, split_metric

Array = npt.NDArray[np.float64]

SEED = 20_250_411
A, ALPHA, B, BETA = 406.4, 0.34, 410.7, 0.28
DIGITS = 6  # significant digits of every value, as evaluation logs print them
NULL_SHARE = 0.02  # of cells where no seed was evaluated
SEED_NULL_SHARE = 0.005  # of further single evaluations

_N = np.array([size.parameters for size in SIZES for _ in size.steps], dtype=np.float64)
_D = np.array([size.tokens(step) for size in SIZES for step in size.steps], dtype=np.float64)
_SIZE = np.array([index for index, size in enumerate(SIZES) for _ in size.steps])
CHECKPOINTS = len(_N)

# Per recipe: nats on text at large (lower is better), quality downstream (higher is better). Both follow the published
# rankings in kind: mixtures close to the validation sets win on perplexity, filtered ones win on the tasks.
_RECIPES: dict[str, tuple[float, float]] = {
    "C4": (0.260, -0.02),
    "DCLM-Baseline": (0.060, 0.10),
    "DCLM-Baseline (QC 10%)": (0.110, 0.24),
    "DCLM-Baseline (QC 20%)": (0.080, 0.26),
    "DCLM-Baseline (QC 7%, FW2)": (0.090, 0.31),
    "DCLM-Baseline (QC 7%, FW3)": (0.150, 0.20),
    "DCLM-Baseline (QC FW 10%)": (0.130, 0.28),
    "DCLM-Baseline (QC FW 3%)": (0.220, 0.06),
    "DCLM-Baseline 25% / Dolma 75%": (-0.050, 0.04),
    "DCLM-Baseline 50% / Dolma 50%": (-0.020, -0.10),
    "DCLM-Baseline 75% / Dolma 25%": (0.010, 0.03),
    "Dolma1.6++": (-0.010, -0.22),
    "Dolma1.7": (-0.035, -0.16),
    "Dolma1.7 (no Flan)": (-0.030, -0.13),
    "Dolma1.7 (no Reddit)": (-0.005, -0.07),
    "Dolma1.7 (no code)": (-0.045, -0.04),
    "Dolma1.7 (no math, code)": (0.020, -0.11),
    "Falcon": (0.100, -0.06),
    "Falcon+CC": (0.045, -0.15),
    "Falcon+CC (QC 10%)": (0.070, 0.18),
    "Falcon+CC (QC 20%)": (0.040, 0.12),
    "Falcon+CC (QC Orig 10%)": (0.050, 0.22),
    "Falcon+CC (QC Tulu 10%)": (0.030, 0.09),
    "FineWeb-Edu": (0.170, 0.14),
    "FineWeb-Pro": (0.190, 0.16),
}

# Per domain: irreducible loss E and factor s on the reducible part.
_DOMAINS: dict[str, tuple[float, float]] = {
    "c4_en-valppl": (2.05, 1.06),
    "dolma_books-valppl": (1.98, 0.98),
    "dolma_common-crawl-valppl": (2.02, 1.00),
    "dolma_pes2o-valppl": (1.60, 1.00),
    "dolma_reddit-valppl": (2.35, 0.95),
    "dolma_stack-valppl": (0.62, 0.95),
    "dolma_wiki-valppl": (1.75, 1.05),
    "ice-valppl": (2.00, 1.02),
    "m2d2_s2orc-valppl": (1.95, 1.00),
    "pile-valppl": (1.65, 0.95),
    "wikitext_103-valppl": (1.85, 1.12),
}

# (recipe begins with, domain, nats): what a recipe has seen more or less of than its peers. All that match add up.
_AFFINITIES: tuple[tuple[str, str, float], ...] = (
    ("C4", "c4_en-valppl", -0.38),
    ("C4", "dolma_stack-valppl", 0.90),
    ("DCLM-Baseline", "dolma_stack-valppl", 0.30),
    ("DCLM-Baseline 25%", "dolma_stack-valppl", -0.24),
    ("DCLM-Baseline 50%", "dolma_stack-valppl", -0.19),
    ("DCLM-Baseline 75%", "dolma_stack-valppl", -0.11),
    ("Dolma1.7 (no code)", "dolma_stack-valppl", 0.48),
    ("Dolma1.7 (no math, code)", "dolma_stack-valppl", 0.52),
    ("Dolma1.7 (no math, code)", "m2d2_s2orc-valppl", 0.12),
    ("Dolma1.7 (no math, code)", "dolma_pes2o-valppl", 0.10),
    ("Dolma1.7 (no Reddit)", "dolma_reddit-valppl", 0.16),
    ("Dolma1", "dolma_reddit-valppl", -0.10),
    ("Dolma1", "dolma_pes2o-valppl", -0.14),
    ("Falcon", "dolma_stack-valppl", 0.70),
    ("FineWeb-Edu", "dolma_wiki-valppl", -0.08),
    ("FineWeb", "dolma_stack-valppl", 0.65),
    ("FineWeb", "dolma_reddit-valppl", 0.18),
)


@dataclass(frozen=True, slots=True)
class _Task:
    options: int  # 1 / options is chance
    target: float  # primary score of a typical 1B model
    middle: float  # reducible loss (nats) at which half of the gain is reached
    items: int  # questions, which set the size of the noise
    chars: int  # of a typical answer
    bits: float  # irreducible bits per byte of the right answer
    primary: str  # the score that the evaluation standard OLMES reports


_TASKS: dict[str, _Task] = {
    "arc_challenge": _Task(4, 0.37, 1.15, 1_172, 28, 0.62, "acc_uncond"),
    "arc_easy": _Task(4, 0.68, 1.85, 2_376, 22, 0.55, "acc_per_char"),
    "boolq": _Task(2, 0.62, 1.00, 1_000, 3, 0.80, "acc_raw"),
    "csqa": _Task(5, 0.59, 1.70, 1_221, 9, 0.90, "acc_uncond"),
    "hellaswag": _Task(4, 0.62, 1.25, 1_000, 62, 0.60, "acc_per_char"),
    "mmlu": _Task(4, 0.345, 1.40, 14_042, 36, 0.58, "acc_per_char"),
    "openbookqa": _Task(4, 0.45, 1.45, 500, 20, 0.85, "acc_uncond"),
    "piqa": _Task(2, 0.74, 1.75, 1_000, 58, 0.66, "acc_per_char"),
    "socialiqa": _Task(3, 0.50, 1.50, 1_000, 18, 0.82, "acc_per_char"),
    "winogrande": _Task(2, 0.59, 1.05, 1_267, 40, 0.70, "acc_raw"),
}
_WIDTH = 0.6  # nats, of the sigmoid
_AT_1B = 0.68  # reducible loss (nats) of a 1B model at the end of its training
_CHARS_PER_TOKEN = 4.4
_ACCURACY_GAIN = {"acc_raw": 0.90, "acc_per_token": 0.93, "acc_per_char": 0.97, "acc_uncond": 0.94}
_SHARPNESS = {"": 0.60, "_per_token": 0.30, "_per_char": 0.12}
_PROBABILITY_CHARS = {"_per_token": 0.9 * _CHARS_PER_TOKEN, "_per_char": 0.95}


def seed_values(metric: str) -> Array:
    """Values of one metric, seeds × recipes × checkpoints, to six significant digits; NaN where not evaluated."""
    if metric in PERPLEXITIES:
        evaluation, exact = metric, np.exp(_loss(metric))
    else:
        evaluation, score = split_metric(metric)
        exact = _score(evaluation, score)
    random = _random(f"null {evaluation}")  # one evaluation gives all scores of its task, or none
    missing = random.random(exact.shape[1:]) < NULL_SHARE
    lost = random.random(exact.shape) < SEED_NULL_SHARE
    lost[0] &= ~lost[1:].any(axis=0)  # two of three may be lost, never all: that is what ``missing`` is for
    return np.where(missing | lost, np.nan, round_significant(exact))


def mean_values(metric: str) -> Array:
    """Mean over the seeds that were evaluated, recipes × checkpoints; NaN where none was."""
    values = seed_values(metric)
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    return round_significant(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def round_significant(values: Array, digits: int = DIGITS) -> Array:
    """Nearest numbers of ``digits`` significant decimal digits; zero and NaN stay."""
    size = np.abs(values)
    ordinary = np.isfinite(values) & (size > 0)
    exponent = np.zeros(values.shape, dtype=np.int64)
    exponent[ordinary] = np.floor(np.log10(size[ordinary])).astype(np.int64)
    shift = digits - 1 - exponent
    up, down = _POWERS[np.maximum(shift, 0)], _POWERS[np.maximum(-shift, 0)]
    return np.asarray(np.round(values * up / down) * down / up)  # one factor is always 1


_POWERS = np.array([float(f"1e{power}") for power in range(300)])


def _random(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))


def _noise(name: str, per_run: float, per_checkpoint: float) -> Array:
    """A constant per training run (seed, recipe, size) plus white noise per checkpoint; larger for small models."""
    random = _random(f"noise {name}")
    runs = random.standard_normal((len(SEEDS), len(RECIPES), len(SIZES)))[:, :, _SIZE]
    white = random.standard_normal((len(SEEDS), len(RECIPES), CHECKPOINTS))
    return np.asarray((per_run * runs + per_checkpoint * white) * (1e8 / _N) ** 0.08)


@lru_cache(maxsize=1)
def _reducible() -> Array:
    """``a_r A / N^alpha + b_r B / D^beta``, 1 × recipes × checkpoints: the factors make rankings cross with scale."""
    random = _random("recipes")
    a = 1 + 0.025 * random.standard_normal((1, len(RECIPES), 1))
    b = 1 + 0.025 * random.standard_normal((1, len(RECIPES), 1))
    return np.asarray(a * A / _N**ALPHA + b * B / _D**BETA)


def _loss(domain: str) -> Array:
    irreducible, factor = _DOMAINS[domain]
    offsets = [
        _RECIPES[recipe][0] + sum(nats for start, on, nats in _AFFINITIES if on == domain and recipe.startswith(start))
        for recipe in RECIPES
    ]
    offset = np.array(offsets)[None, :, None] + 0.01 * _random(domain).standard_normal((1, len(RECIPES), 1))
    return np.asarray(irreducible + offset + factor * _reducible() + _noise(domain, 0.008, 0.005))


@lru_cache(maxsize=1)
def _latent(task: str) -> Array:
    """Reducible loss as the task feels it: what its scores share, quality of the recipe and noise included."""
    quality = np.array([_RECIPES[recipe][1] for recipe in RECIPES])[None, :, None]
    liking = 0.05 * _random(task).standard_normal((1, len(RECIPES), 1))
    return np.asarray(_reducible() - quality - liking + _noise(task, 0.03, 0.015))


def _gain(task: str) -> Array:
    """How far from chance (0) to the typical 1B model (1) and beyond."""
    middle = _TASKS[task].middle
    return np.asarray((1 + np.exp((_AT_1B - middle) / _WIDTH)) / (1 + np.exp((_latent(task) - middle) / _WIDTH)))


def _score(task: str, score: str) -> Array:
    if score == PRIMARY:
        score = _TASKS[task].primary
    if score.startswith("acc_"):
        return _accuracy(task, score)
    if score.endswith("_corr"):
        return _log_likelihood(task, score)
    suffix = next(end for end in ("_per_token", "_per_char", "") if score.endswith(end))
    kind = score.removesuffix(suffix)
    correct = _correct_probability(task, suffix)
    share = _correct_share(task, suffix)
    if kind == "correct_prob":
        return correct
    if kind == "norm_correct_prob":
        return share
    total = correct / share
    if kind == "total_prob":
        return total
    best_wrong = total * (1 - share) / (_TASKS[task].options - 1) * 1.35  # the best of them, not their mean
    return np.asarray(correct - best_wrong)  # margin


def _accuracy(task: str, score: str) -> Array:
    facts = _TASKS[task]
    chance = 1 / facts.options
    factor = 1.0 if score == facts.primary else _ACCURACY_GAIN[score]
    expected = chance + (facts.target - chance) * factor * _gain(task)
    spread = 0.5 * np.sqrt(0.25 / facts.items)
    observed = np.clip(expected + _noise(f"{task} {score}", spread, spread), 0.02, 0.98)
    return np.asarray(np.round(observed * facts.items) / facts.items)  # so many questions out of all


def _nats_per_char(task: str) -> Array:
    return np.asarray(_TASKS[task].bits * np.log(2) + 0.11 * np.maximum(_latent(task), 0.05))


def _log_likelihood(task: str, score: str) -> Array:
    nats = _nats_per_char(task)
    if score == "bits_per_byte_corr":
        return np.asarray(nats / np.log(2))
    chars = {"sum_logits_corr": float(_TASKS[task].chars), "logits_per_token_corr": _CHARS_PER_TOKEN}.get(score, 1.0)
    return np.asarray(-chars * nats)


def _correct_probability(task: str, suffix: str) -> Array:
    # A mean over questions is ruled by its likeliest answers: 0.35 of the typical length.
    return np.asarray(np.exp(-_PROBABILITY_CHARS.get(suffix, 0.35 * _TASKS[task].chars) * _nats_per_char(task)))


def _correct_share(task: str, suffix: str) -> Array:
    facts = _TASKS[task]
    chance = 1 / facts.options
    share = chance + (facts.target - chance) * _SHARPNESS[suffix] * _gain(task)
    return np.asarray(np.clip(share + _noise(f"{task} share{suffix}", 0.002, 0.001), 0.01, 0.95))
