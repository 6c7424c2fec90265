SELECT
  "value" AS "value"
FROM (
  SELECT
    "data" AS "value"
  FROM (
    SELECT
      "params",
      "data",
      AVG(NULLIF("value", CAST('nan' AS DOUBLE))) AS "mean",
      CASE
        WHEN COUNT(*) FILTER(WHERE
          ISINF("value")) > 0
        AND COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) > 1
        THEN CAST('nan' AS DOUBLE)
        ELSE STDDEV_SAMP(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
          NOT ISINF("value"))
      END AS "std",
      COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "count",
      COUNT(*) - COUNT("value") AS "nulls",
      COUNT("value") - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "nans",
      COUNT(DISTINCT "seed") FILTER(WHERE
        NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "seeds"
    FROM "version"
    GROUP BY
      "params",
      "data"
  ) AS grouped
) AS pivoted
GROUP BY
  "value"
ORDER BY
  "value" ASC,
  "value" ASC
