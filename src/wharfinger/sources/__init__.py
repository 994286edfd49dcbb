"""The kinds of registry that can be read, loaded when first asked for."""
