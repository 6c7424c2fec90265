SELECT
  "params",
  "pivot_0",
  "pivot_1"
FROM (
  SELECT
    "cells"."params",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "params",
      "data" AS "pivot_by",
      "mean" AS "pivot_cell"
    FROM (
      SELECT
        "params",
        "data",
        AVG(NULLIF("value", CAST('nan' AS DOUBLE))) AS "mean",
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
  ) AS cells
  JOIN (
    SELECT
      UNNEST(CAST($1 AS TEXT[])) AS "value",
      UNNEST(RANGE(2)) AS "code"
  ) AS codes
    ON "cells"."pivot_by" IS NOT DISTINCT FROM "codes"."value"
) AS numbered
PIVOT(FIRST("pivot_cell") FOR "pivot_code" IN (0 AS "pivot_0", 1 AS "pivot_1"))
ORDER BY
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) ASC,
  "params" ASC
-- $1: ['C4', 'Dolma1.7']
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
