SELECT
  "params",
  "agg_0",
  "agg_1",
  "max_step",
  "agg_3",
  "agg_4",
  "agg_5",
  "agg_6",
  "agg_7",
  "agg_8",
  "agg_9",
  "agg_10",
  "count_step",
  "nulls_step",
  "nans_step",
  "seeds_step"
FROM (
  SELECT
    "params",
    AVG(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_0",
    AVG(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $2) AS "agg_1",
    MAX("step") AS "max_step",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_3",
    COUNT(*) FILTER(WHERE
      "metric" = $1) - COUNT("value") FILTER(WHERE
      "metric" = $1) AS "agg_4",
    COUNT("value") FILTER(WHERE
      "metric" = $1) - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $1) AS "agg_5",
    COUNT(DISTINCT "seed") FILTER(WHERE
      "metric" = $1 AND NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "agg_6",
    COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $2) AS "agg_7",
    COUNT(*) FILTER(WHERE
      "metric" = $2) - COUNT("value") FILTER(WHERE
      "metric" = $2) AS "agg_8",
    COUNT("value") FILTER(WHERE
      "metric" = $2) - COUNT(NULLIF("value", CAST('nan' AS DOUBLE))) FILTER(WHERE
      "metric" = $2) AS "agg_9",
    COUNT(DISTINCT "seed") FILTER(WHERE
      "metric" = $2 AND NOT NULLIF("value", CAST('nan' AS DOUBLE)) IS NULL) AS "agg_10",
    COUNT("step") AS "count_step",
    COUNT(*) - COUNT("step") AS "nulls_step",
    CAST(0 AS BIGINT) AS "nans_step",
    COUNT(DISTINCT "seed") FILTER(WHERE
      NOT "step" IS NULL) AS "seeds_step"
  FROM "version"
  GROUP BY
    "params"
) AS grouped
ORDER BY
  LIST_EXTRACT(CAST($4 AS BIGINT[]), LIST_POSITION(CAST($3 AS TEXT[]), "params")) ASC,
  "params" ASC
-- $1: 'acc'
-- $2: 'pile-valppl'
-- $3: ['150M', '1B', '60M', '60m']
-- $4: [150000000, 1000000000, 60000000, 60000000]
