SELECT
  "params_numeric",
  "count",
  "nulls",
  "nans",
  "seeds"
FROM (
  SELECT
    LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) AS "params_numeric",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "count",
    COUNT(*) - COUNT("value") AS "nulls",
    COUNT("value") - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) AS "nans",
    COUNT(DISTINCT "seed") FILTER(WHERE
      NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "seeds"
  FROM "version"
  GROUP BY
    LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params"))
) AS grouped
ORDER BY
  "params_numeric" DESC
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
