"""State the version, apart from the package's face, so that lower floors can sign with it."""

__version__ = "0.1.0"
