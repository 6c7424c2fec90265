SELECT
  COUNT(*) AS "total"
FROM (
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
  GROUP BY
    "params",
    "data",
    "seed",
    "step",
    "tokens"
) AS counted
