SELECT
  "params",
  "pivot_0",
  "pivot_1",
  "pivot_2"
FROM (
  SELECT
    "cells"."params",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "params",
      "metric" AS "pivot_by",
      CASE
        WHEN COUNT(*) = 1
        THEN FIRST(CAST("value" AS DOUBLE))
        ELSE AVG(NULLIF("value", CAST('nan' AS DOUBLE)))
      END AS "pivot_cell"
    FROM "version"
    GROUP BY
      "params",
      "metric"
  ) AS cells
  JOIN (
    SELECT
      UNNEST(CAST($1 AS TEXT[])) AS "value",
      UNNEST(RANGE(3)) AS "code"
  ) AS codes
    ON "cells"."pivot_by" IS NOT DISTINCT FROM "codes"."value"
) AS numbered
PIVOT(FIRST("pivot_cell") FOR "pivot_code" IN (0 AS "pivot_0", 1 AS "pivot_1", 2 AS "pivot_2"))
ORDER BY
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) ASC,
  "params" ASC
-- $1: ['acc', 'pile-valppl', None]
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
