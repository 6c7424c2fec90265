"""``python -m benchmarks.object_storage``: the same as ``bt bench --object-storage``."""

from __future__ import annotations

import sys

from benchmarks.object_storage.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
