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
  "step" IN ($1, $2, $3)
-- $1: 1
-- $2: 2
-- $3: 3
