"""assetmgr: know, trust, convert, merge, verify and browse diffusion model files."""

__version__ = "0.1.0"
