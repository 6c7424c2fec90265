SELECT
  "params",
  "mean",
  "std",
  "count",
  "nulls",
  "nans",
  "seeds"
FROM (
  SELECT
    *
  FROM (
    SELECT
      "params",
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
      "params"
  ) AS groups
  WHERE
    (
      "mean" > $1 AND NOT ISNAN("mean")
    )
    AND LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) < $4
) AS grouped
ORDER BY
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) ASC,
  "params" ASC
-- $1: 0.4
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
-- $4: 1000000000
