SELECT
  "count",
  "count_acc",
  "agg_1",
  "nulls_acc",
  "nans_acc"
FROM (
  SELECT
    "count",
    COUNT(NULLIF("acc", CAST('nan' AS DOUBLE))) AS "count_acc",
    AVG(NULLIF("acc", CAST('nan' AS DOUBLE))) AS "agg_1",
    COUNT(*) - COUNT("acc") AS "nulls_acc",
    COUNT("acc") - COUNT(NULLIF("acc", CAST('nan' AS DOUBLE))) AS "nans_acc"
  FROM "version"
  GROUP BY
    "count"
) AS grouped
ORDER BY
  "count" ASC
