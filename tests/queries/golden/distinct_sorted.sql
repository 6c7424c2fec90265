SELECT
  "data",
  "params"
FROM "version"
GROUP BY
  "data",
  "params"
ORDER BY
  LIST_EXTRACT(CAST($2 AS BIGINT[]), LIST_POSITION(CAST($1 AS TEXT[]), "params")) ASC,
  MIN("_ordinal") ASC
LIMIT $3
-- $1: ['150M', '1B', '60M', '60m']
-- $2: [150000000, 1000000000, 60000000, 60000000]
-- $3: 3
