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
  LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) BETWEEN $3 AND $4
ORDER BY
  LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) DESC,
  "_ordinal" ASC
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
-- $3: 100000000
-- $4: 2000000000
