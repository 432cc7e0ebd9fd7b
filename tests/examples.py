"""An initializer for every transform: at least one for each row of the registries of distributions and transforms."""

from __future__ import annotations

import fastinit as fi
from fastinit.core.dtypes import SINGLE

EXAMPLES = {
    init.distribution((64,)).lowered(SINGLE).transform: init
    for init in (
        fi.constant(-1.5),
        fi.uniform(-0.3, 0.7),
        fi.normal(0.25, 0.02),
        fi.truncated_normal(0.1, 2.0, -1.0, 1.5),
        fi.truncated_normal(0.0, 1.0, 0.3, 0.5),
        fi.truncated_normal(0.0, 1.0, -9.0, -3.0),
    )
}
