"""The file of the model raises an error of its own while it is read."""

from pathlib import Path

from taut.cli._model import load_model

# wrong
Path("broken.py").write_text("import numpi\n\n\ndef schools(sigma, y=None):\n    pass\n")
model, file = load_model("broken.py:schools")

# right
Path("mended.py").write_text("import numpy\n\n\ndef schools(sigma, y=None):\n    pass\n")
model, file = load_model("mended.py:schools")
