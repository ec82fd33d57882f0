"""The HTTP API, the command line and the embedded stack."""
