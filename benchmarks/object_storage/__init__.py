"""How fast the server is on object storage, beside DuckDB with s3fs and pyarrow.dataset over the same objects.

``run.py`` is the front door (``bt bench --object-storage``); ``../README.md`` says what is measured and how.
"""
