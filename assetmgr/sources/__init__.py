"""Where assets come from over a network; the only package that talks to one."""

import sys

# httpx looks for what its own command line needs, and draws in rich, pygments and click: a tenth of
# the time until a request is on its way. None is Python's word for a module that cannot be had.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
