"""Tools of developers; nothing here is installed with the product."""
