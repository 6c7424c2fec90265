"""The wide table of the demo data: 149 fine-tuning runs, each beside the pretraining checkpoint it began from.

The ``pre_*`` columns are the values of ``datadecide-seeds`` and its kin at that checkpoint, to the last digit.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.demo.facts import METRICS, PERPLEXITIES, RECIPES, SEEDS, SIZES, TASKS, split_metric
from engine.demo.laws import SEED, round_significant, seed_values
from engine.demo.tables import Progress

RUNS = 149
_EPOCH = datetime(2025, 5, 5, 8, 0, tzinfo=UTC)
_CHECKPOINT = {
    (size.label, step): index
    for index, (size, step) in enumerate((size, step) for size in SIZES for step in size.steps)
}
_DATASETS = {"tulu-3-sft-mixture": "instruction, chat", "flan-v2": "instruction", "no_robots": "chat"}

_TYPES: dict[str, pa.DataType] = {
    "run_id": pa.string(),
    "run_name": pa.string(),
    "state": pa.string(),
    "params": pa.string(),
    "data": pa.string(),
    "seed": pa.int32(),
    "pretrain_step": pa.int64(),
    "pretrain_tokens": pa.int64(),
    "pretrain_compute": pa.float64(),
    "pretrain_fraction": pa.float64(),
    "is_last_checkpoint": pa.bool_(),
    "method": pa.string(),
    "ft_data": pa.string(),
    "ft_seed": pa.int32(),
    "ft_tokens": pa.int64(),
    "ft_compute": pa.float64(),
    "epochs": pa.int32(),
    "learning_rate": pa.float64(),
    "lr_schedule": pa.string(),
    "warmup_ratio": pa.float64(),
    "weight_decay": pa.float64(),
    "batch_size": pa.int32(),
    "max_seq_len": pa.int32(),
    "use_lora": pa.bool_(),
    "lora_rank": pa.int32(),
    "lora_alpha": pa.float64(),
    "gradient_checkpointing": pa.bool_(),
    "early_stopped": pa.bool_(),
    "gpus": pa.int16(),
    "wall_time_s": pa.float64(),
    "run_date": pa.date32(),
    "created_at": pa.timestamp("us", tz="UTC"),
    "started_at": pa.timestamp("us", tz="UTC"),
    "finished_at": pa.timestamp("us", tz="UTC"),
    "last_evaluated_at": pa.timestamp("ms"),
    "tags": pa.list_(pa.string()),
    "eval_tasks": pa.list_(pa.string()),
    "loss_steps": pa.list_(pa.int64()),
    "loss_curve": pa.list_(pa.float64()),
    "final_train_loss": pa.float64(),
    "notes": pa.string(),
}


def write_finetuning(path: Path, progress: Progress | None) -> None:
    """``ft-matched``: 149 rows × 483 columns, sorted by run_id, one row group."""
    random = np.random.Generator(np.random.PCG64([SEED, RUNS]))
    picks = sorted(random.choice(len(SIZES) * len(RECIPES) * len(SEEDS), RUNS, replace=False).tolist())
    runs = [_run(number, pick, random) for number, pick in enumerate(picks, start=1)]
    columns = {name: pa.array([run[name] for run in runs], kind) for name, kind in _TYPES.items()}
    scores: dict[str, pa.Array] = {}
    for done, metric in enumerate(METRICS, start=1):
        before, after = _scores(metric, runs, random)
        scores[f"pre_{metric}"] = pa.array(before, pa.float64(), from_pandas=True)
        scores[f"post_{metric}"] = pa.array(after, pa.float64(), from_pandas=True)
        if progress is not None:
            progress(done, len(METRICS))
    ordered = {name: scores[name] for name in sorted(scores, key=lambda name: (name.startswith("post_"), name))}
    pq.write_table(pa.table(columns | ordered), path, compression="zstd")


def _run(number: int, pick: int, random: np.random.Generator) -> dict[str, Any]:
    pick, seed = divmod(pick, len(SEEDS))
    size, recipe = SIZES[pick // len(RECIPES)], RECIPES[pick % len(RECIPES)]
    step = size.steps[-1] if random.random() < 0.6 else int(random.choice(size.steps))
    failed = random.random() < 0.06
    lora = bool(random.random() < 0.35)
    method = str(random.choice(["sft", "sft", "dpo"]))
    ft_data = str(random.choice(list(_DATASETS)))
    ft_tokens = int(random.choice([20_000_000, 50_000_000, 100_000_000]))
    minutes, microseconds = int(random.integers(60 * 24 * 90)), int(random.integers(1_000_000))
    created = _EPOCH + timedelta(minutes=minutes, microseconds=microseconds)
    started = created + timedelta(seconds=int(random.integers(5, 7_200)))
    seconds = round(120 + 6 * size.parameters * ft_tokens / 2e14 * (1 + random.random()), 3)
    finished = None if failed else started + timedelta(seconds=seconds)
    points = int(random.integers(3, 9)) if failed else 20
    curve = 2.6 - 0.12 * np.log(size.parameters / 1e6) + 0.9 * np.exp(-np.arange(points) / 4.0)
    losses = round_significant(curve + 0.02 * random.standard_normal(points)).tolist()
    tags = ["matched", method, *_DATASETS[ft_data].split(", "), *(["lora"] if lora else [])]
    return {
        "run_id": f"ft-{number:04d}-{int(random.integers(16**8)):08x}",
        "run_name": f"{method} {recipe} {size.label} step={step} seed={seed}",
        "state": "failed" if failed else "finished",
        "params": size.label,
        "data": recipe,
        "seed": seed,
        "pretrain_step": step,
        "pretrain_tokens": size.tokens(step),
        "pretrain_compute": size.compute(step),
        "pretrain_fraction": round(step / size.last_step, 6),
        "is_last_checkpoint": step == size.last_step,
        "method": method,
        "ft_data": ft_data,
        "ft_seed": int(random.integers(1, 1_000)),
        "ft_tokens": ft_tokens,
        "ft_compute": float(6 * size.parameters * ft_tokens),
        "epochs": int(random.integers(1, 4)),
        "learning_rate": float(random.choice([5e-6, 1e-5, 2e-5, 5e-5])),
        "lr_schedule": str(random.choice(["linear", "cosine"])),
        "warmup_ratio": float(random.choice([0.0, 0.03, 0.1])),
        "weight_decay": float(random.choice([0.0, 0.01, 0.1])),
        "batch_size": int(random.choice([32, 64, 128])),
        "max_seq_len": 2_048,
        "use_lora": lora,
        "lora_rank": int(random.choice([8, 16, 64])) if lora else None,
        "lora_alpha": 16.0 if lora else None,
        "gradient_checkpointing": size.parameters > 5e8,
        "early_stopped": None if failed else bool(random.random() < 0.1),
        "gpus": int(random.choice([1, 4, 8])),
        "wall_time_s": None if failed else seconds,
        "run_date": date(created.year, created.month, created.day),
        "created_at": created,
        "started_at": started,
        "finished_at": finished,
        "last_evaluated_at": None if finished is None else (finished + timedelta(minutes=17)).replace(tzinfo=None),
        "tags": tags if random.random() < 0.95 else [],
        "eval_tasks": None if failed else [task for task in TASKS if random.random() < 0.9],
        "loss_steps": [50 * (point + 1) for point in range(points)],
        "loss_curve": losses,
        "final_train_loss": None if failed else losses[-1],
        "notes": "out of memory; not repeated" if failed else None,
    }


def _scores(metric: str, runs: list[dict[str, Any]], random: np.random.Generator) -> tuple[list[float], list[float]]:
    """The metric before and after fine-tuning, one pair per run; NaN where the run or the task was not evaluated."""
    values = seed_values(metric)
    before = np.array(
        [
            values[run["seed"], RECIPES.index(run["data"]), _CHECKPOINT[run["params"], run["pretrain_step"]]]
            for run in runs
        ]
    )
    noise = random.standard_normal(RUNS)
    if metric in PERPLEXITIES:
        after = before * np.exp(0.03 + 0.02 * noise)  # a narrower model is worse on text at large
        evaluated = [run["state"] == "finished" for run in runs]
    else:
        task, score = split_metric(metric)
        lower = score == "bits_per_byte_corr"
        after = before + np.abs(before) * (0.03 + 0.02 * noise) * (-1 if lower else 1)
        evaluated = [run["eval_tasks"] is not None and task in run["eval_tasks"] for run in runs]
    rounded = round_significant(np.where(evaluated, after, np.nan))
    return before.tolist(), rounded.tolist()
