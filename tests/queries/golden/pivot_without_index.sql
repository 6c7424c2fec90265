SELECT
  "pivot_0"
FROM (
  SELECT
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "metric" AS "pivot_by",
      CASE
        WHEN COUNT(*) = 1
        THEN FIRST(CAST("value" AS DOUBLE))
        ELSE AVG(NULLIF("value", CAST('nan' AS DOUBLE)))
      END AS "pivot_cell"
    FROM "version"
    GROUP BY
      "metric"
  ) AS cells
  JOIN (
    SELECT
      UNNEST(CAST($1 AS TEXT[])) AS "value",
      UNNEST(RANGE(1)) AS "code"
  ) AS codes
    ON "cells"."pivot_by" IS NOT DISTINCT FROM "codes"."value"
) AS numbered
PIVOT(FIRST("pivot_cell") FOR "pivot_code" IN (0 AS "pivot_0"))
-- $1: ['acc']
