SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens",
  "pivot_0",
  "pivot_1"
FROM (
  SELECT
    "cells"."params",
    "cells"."data",
    "cells"."seed",
    "cells"."step",
    "cells"."tokens",
    "codes"."code" AS "pivot_code",
    "cells"."pivot_cell"
  FROM (
    SELECT
      "params",
      "data",
      "seed",
      "step",
      "tokens",
      "metric" AS "pivot_by",
      "value" AS "pivot_cell"
    FROM "version"
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
  "data" ASC,
  "seed" ASC,
  "step" ASC,
  "tokens" ASC,
  "params" ASC
-- $1: ['acc', 'pile-valppl']
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
