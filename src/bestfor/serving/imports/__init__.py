"""Read what people said elsewhere, as other tools export it, into a journal."""

from bestfor.serving.imports.feedback import ImportOptions
from bestfor.serving.imports.kinds import SOURCES
from bestfor.serving.imports.writing import Imported, import_files

__all__ = ["SOURCES", "ImportOptions", "Imported", "import_files"]
