"""The command line as a client of a running service: a file for each kind of thing."""
