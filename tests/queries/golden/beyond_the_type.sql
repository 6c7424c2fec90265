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
  "tiny" IN ($1) AND "tiny" >= $2 AND "tiny" >= $3
-- $1: 1
-- $2: -128
-- $3: -128
