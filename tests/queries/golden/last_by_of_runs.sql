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
      COALESCE(ARG_MAX("picked_ordinal", "picked_rank"), MIN("picked_ordinal"))
    FROM (
      SELECT
        "params" AS "picked_key_0",
        "data" AS "picked_key_1",
        "seed" AS "picked_key_2",
        "metric" AS "picked_key_3",
        "step" AS "picked_rank",
        "_ordinal" AS "picked_ordinal"
      FROM "version"
      WHERE
        "data" = $1
    ) AS ranked
    GROUP BY
      "picked_key_0",
      "picked_key_1",
      "picked_key_2",
      "picked_key_3"
  )
  AND "data" = $1
ORDER BY
  "_ordinal"
-- $1: 'C4'
