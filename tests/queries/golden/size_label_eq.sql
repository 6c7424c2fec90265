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
  "params" IN ($1, $2)
-- $1: '60M'
-- $2: '60m'
