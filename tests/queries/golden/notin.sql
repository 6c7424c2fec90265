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
    "note" IN ($1, $2)
  )
-- $1: 'a'
-- $2: 'b'
