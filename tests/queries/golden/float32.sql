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
  "loss" = CAST($1 AS REAL)
  AND (
    "loss" > CAST($2 AS REAL) AND NOT ISNAN("loss")
  )
  AND NOT (
    "loss" IN (CAST($3 AS REAL), CAST($4 AS REAL))
  )
-- $1: 0.10000000149011612
-- $2: 2.0
-- $3: 0.10000000149011612
-- $4: 0.20000000298023224
