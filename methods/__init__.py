"""One file per published technique; the registry finds them by their ``@register`` line."""
