"""What LoRAs, embeddings and hypernetworks do to a loaded checkpoint, and back."""
