"""The templates that hold for a home: the user's own first, then kbsync's."""

from pathlib import Path

from kbsync.resources import templates_folder
from kbsync.templates import Template, Templates, check_file, load_templates

__all__ = ["check_templates", "templates_for"]


def templates_for(home: Path) -> Templates:
    """Return the templates of ``home/templates`` and, for all other relations, kbsync's own."""
    return load_templates(home / "templates", templates_folder())


def check_templates(home: Path, file: Path) -> list[Template]:
    """Return the templates of `file`; raise TemplateError where it could not be used in `home`."""
    return check_file(file, beside=templates_for(home))
