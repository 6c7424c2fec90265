"""What the DataDecide publication fixes: recipes, sizes, schedules, tasks and metric names. Holds no invented number.

Recipe, task and score names, parameter counts (without embeddings), batch sizes and training steps are those of
https://github.com/allenai/DataDecide and the data sets ``allenai/DataDecide-*`` (arXiv 2504.11393).
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE_LENGTH = 2_048
CHECKPOINT_EVERY = 1_250  # steps
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Size:
    """One model size.

    ``last_step`` is the last step kept: the published schedule's, or for the sizes from 150M up the last multiple of
    1,250 that all seeds reached. 530M and 750M end earlier still, so that the whole has the 1.86 million rows of the
    table that it imitates.
    """

    label: str
    parameters: int
    batch_sequences: int
    last_step: int

    @property
    def steps(self) -> tuple[int, ...]:
        """The checkpoints, ascending: every 1,250 steps, and the last step."""
        return (*range(CHECKPOINT_EVERY, self.last_step, CHECKPOINT_EVERY), self.last_step)

    def tokens(self, step: int) -> int:
        """Tokens seen after ``step`` optimiser steps."""
        return step * self.batch_sequences * SEQUENCE_LENGTH

    def compute(self, step: int) -> float:
        """Floating-point operations, 6 · parameters · tokens; the product is exact before it becomes a float."""
        return float(6 * self.parameters * self.tokens(step))


SIZES: tuple[Size, ...] = (
    Size("4M", 3_744_832, 32, 5_725),
    Size("6M", 6_010_464, 32, 9_182),
    Size("8M", 8_538_240, 32, 13_039),
    Size("10M", 9_900_432, 32, 15_117),
    Size("14M", 14_380_224, 32, 21_953),
    Size("16M", 16_004_560, 32, 24_432),
    Size("20M", 19_101_888, 64, 14_584),
    Size("60M", 57_078_144, 96, 29_042),
    Size("90M", 97_946_640, 160, 29_901),
    Size("150M", 151_898_880, 192, 37_500),
    Size("300M", 319_980_544, 320, 45_000),
    Size("530M", 530_074_944, 448, 46_250),
    Size("750M", 681_297_408, 576, 56_250),
    Size("1B", 1_176_832_000, 704, 67_500),
)

#: By name, in the byte order in which every engine sorts them.
RECIPES: tuple[str, ...] = (
    "C4",
    "DCLM-Baseline",
    "DCLM-Baseline (QC 10%)",
    "DCLM-Baseline (QC 20%)",
    "DCLM-Baseline (QC 7%, FW2)",
    "DCLM-Baseline (QC 7%, FW3)",
    "DCLM-Baseline (QC FW 10%)",
    "DCLM-Baseline (QC FW 3%)",
    "DCLM-Baseline 25% / Dolma 75%",
    "DCLM-Baseline 50% / Dolma 50%",
    "DCLM-Baseline 75% / Dolma 25%",
    "Dolma1.6++",
    "Dolma1.7",
    "Dolma1.7 (no Flan)",
    "Dolma1.7 (no Reddit)",
    "Dolma1.7 (no code)",
    "Dolma1.7 (no math, code)",
    "Falcon",
    "Falcon+CC",
    "Falcon+CC (QC 10%)",
    "Falcon+CC (QC 20%)",
    "Falcon+CC (QC Orig 10%)",
    "Falcon+CC (QC Tulu 10%)",
    "FineWeb-Edu",
    "FineWeb-Pro",
)

PERPLEXITIES: tuple[str, ...] = (
    "c4_en-valppl",
    "dolma_books-valppl",
    "dolma_common-crawl-valppl",
    "dolma_pes2o-valppl",
    "dolma_reddit-valppl",
    "dolma_stack-valppl",
    "dolma_wiki-valppl",
    "ice-valppl",
    "m2d2_s2orc-valppl",
    "pile-valppl",
    "wikitext_103-valppl",
)

TASKS: tuple[str, ...] = (
    "arc_challenge",
    "arc_easy",
    "boolq",
    "csqa",
    "hellaswag",
    "mmlu",
    "openbookqa",
    "piqa",
    "socialiqa",
    "winogrande",
)

PRIMARY = "primary_metric"

SCORES: tuple[str, ...] = (
    PRIMARY,
    "acc_raw",
    "acc_per_token",
    "acc_per_char",
    "acc_uncond",
    "correct_prob",
    "correct_prob_per_token",
    "correct_prob_per_char",
    "norm_correct_prob",
    "norm_correct_prob_per_token",
    "norm_correct_prob_per_char",
    "total_prob",
    "total_prob_per_token",
    "total_prob_per_char",
    "margin",
    "margin_per_token",
    "margin_per_char",
    "sum_logits_corr",
    "logits_per_token_corr",
    "logits_per_char_corr",
    "bits_per_byte_corr",
)

PRIMARY_METRICS: tuple[str, ...] = tuple(f"{task}_{PRIMARY}" for task in TASKS)

#: All 221, sorted as text.
METRICS: tuple[str, ...] = tuple(sorted((*PERPLEXITIES, *(f"{task}_{score}" for task in TASKS for score in SCORES))))


def split_metric(metric: str) -> tuple[str, str]:
    """Task and score of a downstream metric.

    >>> split_metric("arc_easy_acc_per_char")
    ('arc_easy', 'acc_per_char')
    """
    task = next(task for task in TASKS if metric.startswith(f"{task}_"))
    return task, metric.removeprefix(f"{task}_")
