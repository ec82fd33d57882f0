"""Runs the migrations on the connection that service.core.schema.migrate gives, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
