"""Files: tensors that are read and written whole, manifests of models, recipes, and checkpoints made of both.

Imports core, distributions, initializers and sampling; the command line and the adapters alone import it. Whatever is
read may be hostile: open it by `files.open_regular`, refuse what is not exactly the format, quote what came from it.
Whatever is written is complete or absent: `files.complete_blocks`. Where its bytes lie is decided before, in `layout`,
and what they are is drawn by `values`. zarr arrays are the exception: their chunks are, one by one, and `zarr_plans`
and `zarr_arrays` make, fill and resume them. A format is one reader in `tensor_files`; a recipe of the package one TOML
file in ``recipes/``. A checkpoint of several files is read by `shards`.
"""
