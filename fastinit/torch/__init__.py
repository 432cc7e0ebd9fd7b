"""fastinit for torch: tensors of any device, modules by their own code, sharded parameters.

A room that only the command line may import, and the only one that imports torch. `places` says which part of a
tensor a view is and fills it, `sharding` which parts of a distributed tensor a rank holds, `calls` what torch's calls
ask for. `contexts`, `slots` and `modules` name the tensors that are drawn, `tables` keeps what is computed, `ties` what
is tied. `initialization` runs a module's own code, `architectures` builds modules to record. `nn_init` has the
functions of ``torch.nn.init``. To have another call of torch drawn, add a row in `calls`.
"""

from fastinit.torch import nn_init
from fastinit.torch.filling import fill_
from fastinit.torch.initialization import accelerated, drawing, initialize_, record
from fastinit.torch.report import InitializationReport, Initialized
from fastinit.torch.sharding import LocalRegion, local_regions

__all__ = [
    "InitializationReport",
    "Initialized",
    "LocalRegion",
    "accelerated",
    "drawing",
    "fill_",
    "initialize_",
    "local_regions",
    "nn_init",
    "record",
]
