SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens",
  "metric",
  "value",
  "note"
FROM "version"
WHERE
  "value" BETWEEN $1 AND $2
-- $1: 0.0
-- $2: 1.0
