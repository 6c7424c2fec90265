SELECT
  "name",
  "step",
  "total_steps",
  "loss",
  "acc",
  "time",
  "price",
  "tiny",
  "done",
  "day",
  "at",
  "exact_at",
  "spent",
  "raw",
  "flags",
  "say ""hi""",
  "count",
  "_ordinal"
FROM "version"
WHERE
  "at" < $1
  AND "day" >= $2
  AND "done" = $3
  AND "price" = $4
  AND "raw" IS NULL
  AND "spent" > CAST($5 AS INTERVAL)
-- $1: datetime.datetime(2024, 5, 1, 12, 0, tzinfo=datetime.timezone.utc)
-- $2: datetime.date(2024, 5, 1)
-- $3: True
-- $4: Decimal('1.5')
-- $5: datetime.timedelta(days=1, seconds=7200)
