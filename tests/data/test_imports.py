"""The data unit stays light: a labelling server or a laptop script needs no torch for it."""

from __future__ import annotations

import subprocess
import sys


def test_no_module_of_the_unit_loads_torch() -> None:
    program = (
        "import importlib, pkgutil, sys, hark.data as data\n"
        "names = [m.name for m in pkgutil.walk_packages(data.__path__, 'hark.data.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "assert len(names) > 15, names\n"
        "heavy = {'torch', 'transformers', 'datasets'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
