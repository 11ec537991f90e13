"""Show a diagnosis as a page, a picture or a terminal summary; nothing is computed here."""

from bestfor.report.page import render_html, write_html
from bestfor.report.terminal import print_summary

__all__ = ["print_summary", "render_html", "write_html"]
