SELECT
  "mean",
  "count",
  "nulls",
  "nans",
  "seeds"
FROM (
  SELECT
    AVG(NULLIF("value", CAST('nan' AS DOUBLE))) AS "mean",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "count",
    COUNT(*) - COUNT("value") AS "nulls",
    COUNT("value") - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "nans",
    COUNT(DISTINCT "seed") FILTER(WHERE
      NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "seeds"
  FROM "version"
) AS grouped
