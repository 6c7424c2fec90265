SELECT
  "params",
  "agg_0",
  "agg_1",
  "agg_2",
  "agg_3",
  "agg_4"
FROM (
  SELECT
    "params",
    AVG(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_0",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_1",
    COUNT(*) FILTER(WHERE
      "metric" = $1) - COUNT("value") FILTER(WHERE
      "metric" = $1) AS "agg_2",
    COUNT("value") FILTER(WHERE
      "metric" = $1) - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_3",
    COUNT(DISTINCT "seed") FILTER(WHERE
      "metric" = $1 AND NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "agg_4"
  FROM "version"
  GROUP BY
    "params"
) AS grouped
ORDER BY
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) ASC,
  "params" ASC
-- $1: 'acc'
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
