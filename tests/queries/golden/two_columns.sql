SELECT
  "name",
  "step",
  "total_steps",
  "loss",
  "acc",
  "time",
  "price",
  "tiny",
  "done",
  "day",
  "at",
  "exact_at",
  "spent",
  "raw",
  "flags",
  "say ""hi""",
  "count",
  "_ordinal"
FROM "version"
WHERE
  CASE
    WHEN "loss" IS NULL OR "acc" IS NULL
    THEN NULL
    ELSE CAST("loss" AS DOUBLE) < CAST("acc" AS DOUBLE)
    AND NOT ISNAN("loss")
    AND NOT ISNAN("acc")
  END
  AND "step" = "total_steps"
