SELECT
  COUNT(*) AS "total"
FROM (
  SELECT
    "data"
  FROM "version"
  GROUP BY
    "data"
) AS counted
