"""A house over the test's own database, with the yard of the engine's tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[1] / "sync" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("yard_of_the_engine", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)

PROJECT = _MODULE.PROJECT
yard = _MODULE.yard
upstream = _MODULE.upstream
