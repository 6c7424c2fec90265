SELECT
  "name",
  "step",
  "total_steps",
  "loss",
  "acc",
  "time",
  "price",
  "tiny",
  "done",
  "day",
  "at",
  "exact_at",
  "spent",
  "raw",
  "flags",
  "say ""hi""",
  "count",
  "_ordinal"
FROM "version"
WHERE
  "_ordinal_" IN (
    SELECT
      MIN("picked_ordinal")
    FROM (
      WITH picked_rows AS MATERIALIZED (
        SELECT
          "name" AS "picked_key_0",
          "day" AS "picked_rank",
          "_ordinal_" AS "picked_ordinal"
        FROM "version"
      )
      SELECT
        "r"."picked_key_0",
        "r"."picked_ordinal"
      FROM picked_rows AS r
      JOIN (
        SELECT
          "picked_key_0",
          MIN("picked_rank") AS "picked_best"
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
ORDER BY
  "_ordinal_"
