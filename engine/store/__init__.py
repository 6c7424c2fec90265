"""Where versions live: a write-once log per dataset, immutable parquet blobs, and the ways into it.

``protocol.py`` says what a home must be able to do; ``local.py`` is the one in a folder. ``records.py`` and ``log.py``
are the log, ``publish.py`` and ``ingest.py`` write to it, ``verify.py`` guards what is read. See ``docs/store.md``.
"""

from engine.store.catalogue import DatasetLogs, dataset_exists, list_datasets
from engine.store.definitions import definition_text
from engine.store.ingest import IngestEvent, Ingestor
from engine.store.inspect import Inspection, inspect_parquet
from engine.store.keys import check_dataset_name
from engine.store.local import LocalStore
from engine.store.log import DatasetLog
from engine.store.protocol import ObjectStat, Progress, Staged, Store
from engine.store.publish import Publisher, PublishOutcome, PublishPlan
from engine.store.records import FileEntry, Original, Retyped, SchemaDiff, SchemaField, Source
from engine.store.state import DatasetState, Reject, Version
from engine.store.unlogged import UnloggedDrops
from engine.store.verify import verify_blob
from engine.store.watcher import Watcher

__all__ = [
    "DatasetLog",
    "DatasetLogs",
    "DatasetState",
    "FileEntry",
    "IngestEvent",
    "Ingestor",
    "Inspection",
    "LocalStore",
    "ObjectStat",
    "Original",
    "Progress",
    "PublishOutcome",
    "PublishPlan",
    "Publisher",
    "Reject",
    "Retyped",
    "SchemaDiff",
    "SchemaField",
    "Source",
    "Staged",
    "Store",
    "UnloggedDrops",
    "Version",
    "Watcher",
    "check_dataset_name",
    "dataset_exists",
    "definition_text",
    "inspect_parquet",
    "list_datasets",
    "verify_blob",
]
