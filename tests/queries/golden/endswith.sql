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
  ENDS_WITH("data", $1)
-- $1: '4'
