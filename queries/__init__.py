"""The query layer: a request becomes a plan, and a plan becomes one SQL statement.

Pure: no I/O, no DuckDB, no HTTP. It imports the standard library, pydantic and sqlglot only.
"""
