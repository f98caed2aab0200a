"""The report of an audit: data, page, figures, films and files."""

from __future__ import annotations
