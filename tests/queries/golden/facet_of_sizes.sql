SELECT
  "value",
  "count"
FROM (
  SELECT
    "params" AS "value",
    COUNT(*) AS "count"
  FROM "version"
  GROUP BY
    "params"
) AS counted
ORDER BY
  "count" DESC,
  LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "value")) ASC,
  "value" ASC
LIMIT 100
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
