SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens",
  "pivot_0",
  "pivot_1",
  "pivot_2",
  "pivot_3",
  "pivot_4",
  "pivot_5",
  "pivot_6",
  "pivot_7",
  "pivot_8",
  "pivot_9",
  "pivot_10",
  "pivot_11",
  "pivot_12",
  "pivot_13",
  "pivot_14",
  "pivot_15",
  "pivot_16",
  "pivot_17",
  "pivot_18",
  "pivot_19",
  "pivot_20"
FROM (
  SELECT
    "params",
    "data",
    "seed",
    "step",
    "tokens",
    LIST_EXTRACT("pivot_cells", 1) AS "pivot_0",
    LIST_EXTRACT("pivot_cells", 2) AS "pivot_1",
    LIST_EXTRACT("pivot_cells", 3) AS "pivot_2",
    LIST_EXTRACT("pivot_cells", 4) AS "pivot_3",
    LIST_EXTRACT("pivot_cells", 5) AS "pivot_4",
    LIST_EXTRACT("pivot_cells", 6) AS "pivot_5",
    LIST_EXTRACT("pivot_cells", 7) AS "pivot_6",
    LIST_EXTRACT("pivot_cells", 8) AS "pivot_7",
    LIST_EXTRACT("pivot_cells", 9) AS "pivot_8",
    LIST_EXTRACT("pivot_cells", 10) AS "pivot_9",
    LIST_EXTRACT("pivot_cells", 11) AS "pivot_10",
    LIST_EXTRACT("pivot_cells", 12) AS "pivot_11",
    LIST_EXTRACT("pivot_cells", 13) AS "pivot_12",
    LIST_EXTRACT("pivot_cells", 14) AS "pivot_13",
    LIST_EXTRACT("pivot_cells", 15) AS "pivot_14",
    LIST_EXTRACT("pivot_cells", 16) AS "pivot_15",
    LIST_EXTRACT("pivot_cells", 17) AS "pivot_16",
    LIST_EXTRACT("pivot_cells", 18) AS "pivot_17",
    LIST_EXTRACT("pivot_cells", 19) AS "pivot_18",
    LIST_EXTRACT("pivot_cells", 20) AS "pivot_19",
    LIST_EXTRACT("pivot_cells", 21) AS "pivot_20"
  FROM (
    SELECT
      "params",
      "data",
      "seed",
      "step",
      "tokens",
      CASE
        WHEN "pivot_codes" = RANGE(21)
        THEN "pivot_cells"
        WHEN LIST_SORT("pivot_codes", 'ASC', 'NULLS LAST') = RANGE(21)
        THEN LIST_SELECT("pivot_cells", LIST_GRADE_UP("pivot_codes", 'ASC', 'NULLS LAST'))
        ELSE LIST_TRANSFORM(
          RANGE(21),
          LAMBDA "pivot_each" : LIST_EXTRACT("pivot_cells", LIST_POSITION("pivot_codes", "pivot_each"))
        )
      END AS "pivot_cells"
    FROM (
      SELECT
        "params",
        "data",
        "seed",
        "step",
        "tokens",
        LIST("pivot_cell") AS "pivot_cells",
        LIST("pivot_code") AS "pivot_codes"
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
            UNNEST(RANGE(21)) AS "code"
        ) AS codes
          ON "cells"."pivot_by" IS NOT DISTINCT FROM "codes"."value"
      ) AS numbered
      GROUP BY
        "params",
        "data",
        "seed",
        "step",
        "tokens"
    ) AS listed
  ) AS dense
) AS pivoted
ORDER BY
  NULLIF("pivot_7", CAST('nan' AS DOUBLE)) DESC,
  "pivot_7" IS NULL ASC,
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) ASC,
  "data" ASC,
  "seed" ASC,
  "step" ASC,
  "tokens" ASC,
  "params" ASC
LIMIT $4
-- $1: ['m0', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'm9', 'm10', 'm11', 'm12'… (137 characters)
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
-- $4: 5
