"""Base of all methods: base classes, cards, recipes, losses, weights."""
