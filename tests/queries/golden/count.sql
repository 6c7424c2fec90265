SELECT
  COUNT(*) AS "total"
FROM "version"
WHERE
  "data" = $1
-- $1: 'C4'
