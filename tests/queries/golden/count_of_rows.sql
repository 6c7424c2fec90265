SELECT
  "name",
  "agg_0"
FROM (
  SELECT
    "name",
    COUNT(*) AS "agg_0"
  FROM "version"
  GROUP BY
    "name"
) AS grouped
ORDER BY
  "name" ASC
