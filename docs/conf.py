"""Sphinx's configuration: ``sphinx-build -W docs docs/_build``."""

import fastinit

project = "fastinit"
author = "The fastinit contributors"
release = version = fastinit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "autolink"  # what stands in single backticks is a link where it names something of the reference

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_mock_imports = ["dask", "jax", "torch"]  # the reference is the same where they are not installed
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections describe the parameters
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "fastinit"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False
