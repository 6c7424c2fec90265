SELECT
  "value" AS "value"
FROM (
  SELECT
    "metric" AS "value"
  FROM "version"
  WHERE
    "data" = $1
) AS pivoted
GROUP BY
  "value"
ORDER BY
  "value" ASC,
  "value" ASC
-- $1: 'C4'
