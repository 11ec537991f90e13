"""State the package's version, in a module without imports, so that every module can put it into signatures."""

__version__ = "0.1.0"
