SELECT
  "value",
  "count"
FROM (
  SELECT
    "data" AS "value",
    COUNT(*) AS "count"
  FROM "version"
  WHERE
    "step" > $1
  GROUP BY
    "data"
) AS counted
ORDER BY
  "count" DESC,
  "value" ASC,
  "value" ASC
LIMIT 100
-- $1: 1
