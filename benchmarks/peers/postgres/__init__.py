"""PostgreSQL behind a minimal FastAPI. ``system.py`` is the peer; the others are its parts."""

from benchmarks.peers.postgres.system import POSTGRES

__all__ = ["POSTGRES"]
