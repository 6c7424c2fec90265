SELECT
  "step",
  "pivot_0"
FROM (
  SELECT
    "cells"."step",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "step",
      "metric" AS "pivot_by",
      ARG_MIN("note", "_ordinal") AS "pivot_cell"
    FROM "version"
    GROUP BY
      "step",
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
ORDER BY
  "step" ASC
-- $1: ['acc']
