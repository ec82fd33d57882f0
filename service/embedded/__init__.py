"""PostgreSQL and Valkey from pip wheels, as children of this process that die with it."""
