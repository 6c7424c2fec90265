"""Speaks HTTP and the command line. Knows no SQL, and nothing of how data lies on a disk: the engine does."""
