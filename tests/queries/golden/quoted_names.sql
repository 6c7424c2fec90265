SELECT
  "say ""hi""",
  "count",
  "_ordinal",
  "_ordinal_"
FROM "version"
WHERE
  "say ""hi""" = $1
LIMIT $2
-- $1: 1
-- $2: 5
