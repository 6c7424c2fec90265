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
          "metric" AS "picked_key_1",
          CASE
            WHEN "metric" IN ($1, $2)
            THEN -(
              NULLIF("value", CAST('nan' AS DOUBLE))
            )
            ELSE NULLIF("value", CAST('nan' AS DOUBLE))
          END AS "picked_rank",
          "_ordinal" AS "picked_ordinal"
        FROM "version"
        WHERE
          "metric" IN ($3, $4, $5)
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
  AND "metric" IN ($3, $4, $5)
ORDER BY
  "_ordinal"
-- $1: 'c4-valppl'
-- $2: 'pile-valppl'
-- $3: 'acc'
-- $4: 'c4-valppl'
-- $5: 'pile-valppl'
