SELECT
  "name",
  "sum_tiny",
  "sum_done",
  "mean_done",
  "sum_price",
  "mean_price",
  "max_day",
  "count_flags",
  "count_tiny",
  "nulls_tiny",
  "nans_tiny",
  "count_done",
  "nulls_done",
  "nans_done",
  "count_price",
  "nulls_price",
  "nans_price",
  "count_day",
  "nulls_day",
  "nans_day",
  "nulls_flags",
  "nans_flags"
FROM (
  SELECT
    "name",
    CAST(SUM("tiny") AS BIGINT) AS "sum_tiny",
    CAST(SUM(CAST("done" AS INT)) AS BIGINT) AS "sum_done",
    AVG(CAST(CAST("done" AS INT) AS DOUBLE)) AS "mean_done",
    SUM("price") AS "sum_price",
    AVG(CAST("price" AS DOUBLE)) AS "mean_price",
    MAX("day") AS "max_day",
    COUNT("flags") AS "count_flags",
    COUNT("tiny") AS "count_tiny",
    COUNT(*) - COUNT("tiny") AS "nulls_tiny",
    CAST(0 AS BIGINT) AS "nans_tiny",
    COUNT("done") AS "count_done",
    COUNT(*) - COUNT("done") AS "nulls_done",
    CAST(0 AS BIGINT) AS "nans_done",
    COUNT("price") AS "count_price",
    COUNT(*) - COUNT("price") AS "nulls_price",
    CAST(0 AS BIGINT) AS "nans_price",
    COUNT("day") AS "count_day",
    COUNT(*) - COUNT("day") AS "nulls_day",
    CAST(0 AS BIGINT) AS "nans_day",
    COUNT(*) - COUNT("flags") AS "nulls_flags",
    CAST(0 AS BIGINT) AS "nans_flags"
  FROM "version"
  GROUP BY
    "name"
) AS grouped
ORDER BY
  "name" ASC
