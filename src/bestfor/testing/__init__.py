"""Conformance suites that plug-ins inherit; they need pytest."""
