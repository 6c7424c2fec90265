"""The other ways to ask such data over HTTP, real and set up as their documentation advises. Measures nothing.

``peer.py`` says what the suite may ask of each; ``sql.py`` translates for those that speak SQL.
"""

from benchmarks.peers.datasette import DATASETTE
from benchmarks.peers.mosaic import MOSAIC
from benchmarks.peers.peer import Peer
from benchmarks.peers.postgres import POSTGRES
from benchmarks.peers.roapi import ROAPI
from benchmarks.peers.tiled import TILED

PEERS: tuple[Peer, ...] = (POSTGRES, DATASETTE, ROAPI, MOSAIC, TILED)

__all__ = ["PEERS", "Peer"]
