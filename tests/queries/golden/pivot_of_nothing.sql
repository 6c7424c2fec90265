SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens"
FROM (
  SELECT
    "params",
    "data",
    "seed",
    "step",
    "tokens",
    "metric" AS "pivot_by",
    "value" AS "pivot_cell"
  FROM "version"
) AS cells
WHERE
  FALSE
