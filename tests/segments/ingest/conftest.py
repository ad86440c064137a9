"""Fixtures of the ingest: a directory of blobs."""

from pathlib import Path

import pytest

from segments.files.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty directory of blobs."""
    return Blobs.in_directory(tmp_path / "blobs")
