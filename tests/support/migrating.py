"""Bring a journal's database to another version of its tables, as releases of before left it."""

from alembic.config import Config
from sqlalchemy import create_engine

from bestfor.serving.journal import database


def migrate(address, way, version):
    """Go up or down (``alembic.command.upgrade``, ``downgrade``) to a version."""
    engine = create_engine(database.parse_url(address))
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        way(config, version)
    engine.dispose()
