SELECT
  "data",
  "pivot_0"
FROM (
  SELECT
    "cells"."data",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "data",
      "params" AS "pivot_by",
      "std" AS "pivot_cell"
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
  ) AS cells
  JOIN (
    SELECT
      UNNEST(CAST($1 AS TEXT[])) AS "value",
      UNNEST(RANGE(1)) AS "code"
  ) AS codes
    ON "cells"."pivot_by" IS NOT DISTINCT FROM "codes"."value"
) AS numbered
PIVOT(FIRST("pivot_cell") FOR "pivot_code" IN (0 AS "pivot_0"))
ORDER BY
  "data" ASC
-- $1: ['60M']
