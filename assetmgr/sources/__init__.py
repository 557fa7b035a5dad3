"""Where assets come from over a network; the only package that talks to one."""
