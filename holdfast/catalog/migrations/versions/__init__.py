"""One module per version, never edited after its release."""
