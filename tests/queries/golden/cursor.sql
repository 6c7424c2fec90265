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
WHERE
  "_ordinal" > $1
LIMIT $2
-- $1: 4711
-- $2: 10
