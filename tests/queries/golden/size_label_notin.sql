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
  NOT (
    "params" IN ($1, $2, $3)
  )
-- $1: '1B'
-- $2: '60M'
-- $3: '60m'
