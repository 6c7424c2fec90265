"""Paper metadata comes here in a later issue; this package knows no HTTP."""
