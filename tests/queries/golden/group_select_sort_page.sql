SELECT
  "data",
  "mean"
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
ORDER BY
  NULLIF("mean", CAST('nan' AS DOUBLE)) DESC,
  "mean" IS NULL ASC,
  LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) ASC,
  "data" ASC,
  "params" ASC
LIMIT $3
OFFSET $4
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
-- $3: 5
-- $4: 5
