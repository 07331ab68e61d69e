"""Where the files that come with kbsync lie: templates and fixtures. Standard library only.

In a wheel they are inside the package (``kbsync/_data``); in a checkout they are beside it.
"""

from importlib.util import find_spec
from pathlib import Path

from kbsync.errors import KbsyncError

_PACKAGE = Path(__file__).resolve().parent


def templates_folder() -> Path:
    """Return the folder of kbsync's own templates."""
    return _folder("templates")


def fixtures_folder() -> Path:
    """Return the folder of the fixture facts (``wikidata/``) and the practice model (``practice-model/``)."""
    return _folder("fixtures")


def presets_folder() -> Path:
    """Return the folder of the settings for known models."""
    return _PACKAGE / "memit" / "presets"


def preset_file(name: str, home: Path | None = None) -> Path | None:
    """Return the file of the preset of this name: of ``home/presets`` or, failing that, kbsync's own; or None."""
    folders = [presets_folder()] if home is None else [home / "presets", presets_folder()]
    files = [folder / f"{name}.yaml" for folder in folders if name and Path(name).name == name]
    return next((file for file in files if file.is_file()), None)


def packaged_file(path: str) -> Path | None:
    """Return the file ``package/name`` of another installed package, which is not imported; None where it is not."""
    package, _, name = path.partition("/")
    found = find_spec(package)
    files = [Path(folder, name) for folder in (found and found.submodule_search_locations) or ()]
    return next((file for file in files if file.is_file()), None)


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise KbsyncError(f"this installation of kbsync lacks its {name} (looked beside {_PACKAGE}): install it again")
