"""What Alembic executes: migrates on the connection, in the transaction, of the upgrade."""

from alembic import context

from holdfast.catalog.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
