SELECT
  "data",
  "pivot_0",
  "pivot_1"
FROM (
  SELECT
    "cells"."data",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "data",
      "params" AS "pivot_by",
      MAX(NULLIF("value", CAST('nan' AS DOUBLE))) AS "pivot_cell"
    FROM "version"
    GROUP BY
      "data",
      "params"
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
  "data" ASC
-- $1: ['60M', '1B']
