"""What every method builds on: base class, card, recipe, losses, weights."""
