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
      "_ordinal"
    FROM "version"
    ORDER BY
      NULLIF("value", CAST('nan' AS DOUBLE)) DESC,
      "value" IS NULL ASC,
      "step" ASC,
      "_ordinal" ASC
    LIMIT $1
    OFFSET $2
  )
ORDER BY
  NULLIF("value", CAST('nan' AS DOUBLE)) DESC,
  "value" IS NULL ASC,
  "step" ASC,
  "_ordinal" ASC
-- $1: 100
-- $2: 200
