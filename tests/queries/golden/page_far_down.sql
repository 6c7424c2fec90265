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
    WITH page_ranks AS MATERIALIZED (
      SELECT
        "page_rank",
        (
          "page_upto" - "page_rows"
        ) AS "page_before"
      FROM (
        SELECT
          "page_rank",
          "page_rows",
          SUM("page_rows") OVER (ORDER BY "page_rank" DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS "page_upto"
        FROM (
          SELECT
            LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) AS "page_rank",
            COUNT(*) AS "page_rows"
          FROM "version"
          WHERE
            "data" = $1
          GROUP BY
            LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params"))
        ) AS counts
      ) AS places
      WHERE
        "page_upto" > $4 AND (
          "page_upto" - "page_rows"
        ) < (
          $4 + $5
        )
    )
    SELECT
      "_ordinal"
    FROM "version"
    WHERE
      "data" = $1
      AND EXISTS(
        SELECT
          1
        FROM page_ranks
        WHERE
          "page_ranks"."page_rank" IS NOT DISTINCT FROM LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params"))
      )
    ORDER BY
      LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) DESC,
      "step" ASC,
      "_ordinal" ASC
    LIMIT $5
    OFFSET CAST((
      $4 - (
        SELECT
          MIN("page_before")
        FROM page_ranks
      )
    ) AS BIGINT)
  )
ORDER BY
  LIST_EXTRACT(CAST($3 AS BIGINT[]), LIST_POSITION(CAST($2 AS TEXT[]), "params")) DESC,
  "step" ASC,
  "_ordinal" ASC
-- $1: 'C4'
-- $2: ['150M', '1B', '60M', '60m']
-- $3: [150000000, 1000000000, 60000000, 60000000]
-- $4: 20000
-- $5: 100
