SELECT
  "params",
  "data",
  "seed",
  "step",
  "tokens",
  "metric",
  "value",
  "note"
FROM "version"
WHERE
  "_ordinal" IN (
    SELECT
      MIN("picked_ordinal")
    FROM (
      WITH picked_rows AS MATERIALIZED (
        SELECT
          "params" AS "picked_key_0",
          "step" AS "picked_rank",
          "_ordinal" AS "picked_ordinal"
        FROM "version"
        WHERE
          "metric" = $1
      )
      SELECT
        "r"."picked_key_0",
        "r"."picked_ordinal"
      FROM picked_rows AS r
      JOIN (
        SELECT
          "picked_key_0",
          MAX("picked_rank") AS "picked_best"
        FROM picked_rows
        GROUP BY
          "picked_key_0"
      ) AS b
        ON "r"."picked_key_0" IS NOT DISTINCT FROM "b"."picked_key_0"
        AND "r"."picked_rank" IS NOT DISTINCT FROM "b"."picked_best"
    ) AS candidates
    GROUP BY
      "picked_key_0"
  )
  AND "metric" = $1
ORDER BY
  "value" ASC,
  "_ordinal" ASC
LIMIT $2
-- $1: 'acc'
-- $2: 2
