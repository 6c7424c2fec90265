SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens",
  "metric",
  "value",
  "note",
  "_ordinal"
FROM "version"
LIMIT $1
OFFSET $2
-- $1: 100
-- $2: 200
