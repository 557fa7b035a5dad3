"""The endings of names that make a file a model file for a walk through folders."""

MODEL_SUFFIXES = frozenset(
    {".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".gguf"}
)
"""In lower case. What a file is, its bytes decide."""
