"""Packages that `maquette new` makes in other frameworks: found as installed ones are, and tested as a user would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import maquette

# Of nine letters, as in the templates.
NAMES = {"encoder": "nighthawk", "vision": "sandpiper"}
ENDINGS = {"keras": "tf", "flax": "flax"}
MAKE = "import sys; from maquette.workshop import make_package; name, like, folder, framework = sys.argv[1:]; "
MAKE += "make_package(name, like=like, folder=folder, frameworks=[framework])"  # with torch, which is not to be here


def run_made_tests(framework: str, kind: str | None, folder: Path, *, only: str = "") -> int:
    """Make packages, run their tests of a framework, and give how many passed.

    Args:
        framework: "keras" or "flax".
        kind: of package; None for all that there are.
        folder: where they are made.
        only: what the names of tests have to contain.
    """
    made = [kind] if kind else list(NAMES)
    paths, tests = [str(Path(maquette.__file__).parents[1]), str(folder / "installed")], []
    for each in made:
        name, place = NAMES[each], folder / f"{NAMES[each]}-project"
        command = [sys.executable, "-c", MAKE, name, each, str(place), framework]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": paths[0]}, check=True, capture_output=True)
        metadata = folder / "installed" / f"{name}-0.1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        (metadata / "entry_points.txt").write_text(f"[maquette.models]\n{name} = {name}:CARD\n")
        paths.append(str(place / "src"))
        tests.append(str(place / "tests" / f"test_{name}_{ENDINGS[framework]}.py"))
    (folder / "none.ini").write_text("[pytest]\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MAQUETTE_HOME": str(folder / "home")}
    options = ["-q", "-c", "none.ini", "-p", "no:cacheprovider", *(["-k", only] if only else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and "skipped" not in done.stdout, done.stdout
    return int(passed[1])
