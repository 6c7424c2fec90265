"""The commands of ``bt``, a file for each kind. ``server/cli.py`` puts them together.

Importing these costs next to nothing: what a command needs, the engine above all, is imported when it runs.
"""
