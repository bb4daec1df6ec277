"""Sphinx's settings: the site of `make docs`, of docs/ and the Markdown files beside it."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# The tutorial's commands find this Python, and the package from any folder.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = str(ROOT)

from sphinx.application import Sphinx  # noqa: E402

from docs import reference  # noqa: E402
from lymphoml import __version__  # noqa: E402

project, project_copyright, release = "lymphoml", "the lymphoml authors", __version__
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/tutorial.ipynb"]
exclude_patterns = [each.name for each in ROOT.iterdir() if each.is_dir() and each.name != "docs"]
extensions = ["myst_nb", "sphinx.ext.autodoc"]
nitpick_ignore_regex = [("py:.*", ".*")]  # types of libraries, whose inventories are online
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_merge_streams = True
default_role = "literal"  # docstrings have code between single backticks
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "member-order": "bysource"}

html_theme = "pydata_sphinx_theme"
html_title = f"lymphoml {release}"
html_theme_options = {
    "navbar_center": [], "navbar_align": "left", "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}  # fmt: skip
html_sidebars = {"**": ["nav.html"]}
templates_path = html_static_path = ["site"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]  # to docs/index.html
html_show_sourcelink = html_copy_source = False


def setup(app: Sphinx) -> None:
    app.connect("source-read", reference.fill)
