SELECT
  "name",
  "sum_loss",
  "mean_loss",
  "std_loss",
  "first_loss",
  "count_loss",
  "nulls_loss",
  "nans_loss"
FROM (
  SELECT
    "name",
    SUM(CAST(NULLIF("loss", CAST('nan' AS REAL)) AS DOUBLE)) AS "sum_loss",
    AVG(CAST(NULLIF("loss", CAST('nan' AS REAL)) AS DOUBLE)) AS "mean_loss",
    CASE
      WHEN COUNT(*) FILTER(WHERE
        ISINF("loss")) > 0
      AND COUNT(NULLIF("loss", CAST('nan' AS REAL))) > 1
      THEN CAST('nan' AS DOUBLE)
      ELSE STDDEV_SAMP(CAST(NULLIF("loss", CAST('nan' AS REAL)) AS DOUBLE)) FILTER(WHERE
        NOT ISINF("loss"))
    END AS "std_loss",
    ARG_MIN(NULLIF("loss", CAST('nan' AS REAL)), "_ordinal_") AS "first_loss",
    COUNT(NULLIF("loss", CAST('nan' AS REAL))) AS "count_loss",
    COUNT(*) - COUNT("loss") AS "nulls_loss",
    COUNT("loss") - COUNT(NULLIF("loss", CAST('nan' AS REAL))) AS "nans_loss"
  FROM "version"
  GROUP BY
    "name"
) AS grouped
ORDER BY
  "name" ASC
