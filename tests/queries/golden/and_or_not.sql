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
  "step" > $1 AND NOT (
    "note" = $2
  ) AND (
    "data" = $3 OR "seed" = $4
  )
-- $1: 1
-- $2: 'x'
-- $3: 'C4'
-- $4: 1
