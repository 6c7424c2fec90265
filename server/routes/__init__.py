"""The paths below ``/api``: each module reads requests of one kind and asks the engine. None knows SQL."""
