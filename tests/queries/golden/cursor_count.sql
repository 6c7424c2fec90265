SELECT
  COUNT(*) AS "total"
FROM "version"
WHERE
  "_ordinal" > $1
-- $1: 4711
