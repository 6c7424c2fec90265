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
ORDER BY
  "value" ASC,
  "_ordinal" ASC
LIMIT $1
OFFSET $2
-- $1: 10
-- $2: 20
