"""Whether this machine can run the service: one check a line, each with what to do about it."""
