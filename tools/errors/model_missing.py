"""The command line finds a model as `FILE.py:FUNCTION`."""

from pathlib import Path

from taut.cli._model import load_model

# wrong
Path("schools.py").write_text("def schools(sigma, y=None):\n    pass\n")
model, file = load_model("schools.py:school")

# right
Path("schools.py").write_text("def schools(sigma, y=None):\n    pass\n")
model, file = load_model("schools.py:schools")
