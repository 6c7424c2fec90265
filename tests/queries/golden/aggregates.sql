SELECT
  "data",
  "count",
  "sum",
  "mean",
  "min",
  "max",
  "median",
  "std",
  "var",
  "sem",
  "first",
  "last",
  "nunique",
  "p05",
  "p99",
  "nulls",
  "nans",
  "seeds"
FROM (
  SELECT
    "data",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "count",
    SUM(NULLIF("value", CAST('nan' AS DOUBLE))) AS "sum",
    AVG(NULLIF("value", CAST('nan' AS DOUBLE))) AS "mean",
    MIN(NULLIF("value", CAST('nan' AS DOUBLE))) AS "min",
    MAX(NULLIF("value", CAST('nan' AS DOUBLE))) AS "max",
    MEDIAN(NULLIF("value", CAST('nan' AS DOUBLE))) AS "median",
    CASE
      WHEN COUNT(*) FILTER(WHERE
        ISINF("value")) > 0
      AND COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) > 1
      THEN CAST('nan' AS DOUBLE)
      ELSE STDDEV_SAMP(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
        NOT ISINF("value"))
    END AS "std",
    CASE
      WHEN COUNT(*) FILTER(WHERE
        ISINF("value")) > 0
      AND COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) > 1
      THEN CAST('nan' AS DOUBLE)
      ELSE VAR_SAMP(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
        NOT ISINF("value"))
    END AS "var",
    CASE
      WHEN COUNT(*) FILTER(WHERE
        ISINF("value")) > 0
      AND COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) > 1
      THEN CAST('nan' AS DOUBLE)
      ELSE STDDEV_SAMP(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
        NOT ISINF("value")) / SQRT(COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
        NOT ISINF("value")))
    END AS "sem",
    ARG_MIN(NULLIF("value", CAST('nan' AS DOUBLE)), "_ordinal") AS "first",
    ARG_MAX(NULLIF("value", CAST('nan' AS DOUBLE)), "_ordinal") AS "last",
    COUNT(DISTINCT NULLIF("value", CAST('nan' AS DOUBLE))) AS "nunique",
    QUANTILE_CONT(NULLIF("value", CAST('nan' AS DOUBLE)), 0.05) AS "p05",
    QUANTILE_CONT(NULLIF("value", CAST('nan' AS DOUBLE)), 0.99) AS "p99",
    COUNT(*) - COUNT("value") AS "nulls",
    COUNT("value") - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "nans",
    COUNT(DISTINCT "seed") FILTER(WHERE
      NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "seeds"
  FROM "version"
  GROUP BY
    "data"
) AS grouped
ORDER BY
  "data" ASC
