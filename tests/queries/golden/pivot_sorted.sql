SELECT
  "step",
  "pivot_0",
  "pivot_1"
FROM (
  SELECT
    "cells"."step",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "step",
      "metric" AS "pivot_by",
      CASE
        WHEN COUNT(*) = 1
        THEN FIRST(CAST("value" AS DOUBLE))
        ELSE AVG(NULLIF("value", CAST('nan' AS DOUBLE)))
      END AS "pivot_cell"
    FROM "version"
    GROUP BY
      "step",
      "metric"
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
  NULLIF("pivot_0", CAST('nan' AS DOUBLE)) DESC,
  "pivot_0" IS NULL ASC,
  "step" ASC
LIMIT $2
-- $1: ['acc', 'odd']
-- $2: 5
