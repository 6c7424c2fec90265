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
          "data" AS "picked_key_1",
          "step" AS "picked_rank",
          "_ordinal" AS "picked_ordinal"
        FROM "version"
      )
      SELECT
        "r"."picked_key_0",
        "r"."picked_key_1",
        "r"."picked_ordinal"
      FROM picked_rows AS r
      JOIN (
        SELECT
          "picked_key_0",
          "picked_key_1",
          MAX("picked_rank") AS "picked_best"
        FROM picked_rows
        GROUP BY
          "picked_key_0",
          "picked_key_1"
      ) AS b
        ON "r"."picked_key_0" IS NOT DISTINCT FROM "b"."picked_key_0"
        AND "r"."picked_key_1" IS NOT DISTINCT FROM "b"."picked_key_1"
        AND "r"."picked_rank" IS NOT DISTINCT FROM "b"."picked_best"
    ) AS candidates
    GROUP BY
      "picked_key_0",
      "picked_key_1"
  )
ORDER BY
  "_ordinal"
