"""How fast and how small the server is, measured over HTTP beside the way that the seed of this project did it.

``run.py`` is the front door (``bt bench``); ``README.md`` says what is measured and how. Nothing imports this package
except the command line, when it is asked for, and the tests.
"""
