"""Pure decisions: facts in, a printable plan out."""
