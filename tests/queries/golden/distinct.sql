SELECT
  "data",
  "params"
FROM "version"
GROUP BY
  "data",
  "params"
ORDER BY
  MIN("_ordinal") ASC
