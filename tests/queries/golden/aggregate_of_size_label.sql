SELECT
  "min_params",
  "max_params",
  "count_params",
  "nulls_params",
  "nans_params",
  "seeds_params"
FROM (
  SELECT
    ARG_MIN(
      "params",
      CASE
        WHEN NOT LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) IS NULL
        THEN [
          LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")),
          "_ordinal"
        ]
      END
    ) AS "min_params",
    ARG_MAX(
      "params",
      CASE
        WHEN NOT LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) IS NULL
        THEN [
          LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")),
          -"_ordinal"
        ]
      END
    ) AS "max_params",
    COUNT("params") AS "count_params",
    COUNT(*) - COUNT("params") AS "nulls_params",
    CAST(0 AS BIGINT) AS "nans_params",
    COUNT(DISTINCT "seed") FILTER(WHERE
      NOT "params" IS NULL) AS "seeds_params"
  FROM "version"
) AS grouped
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
