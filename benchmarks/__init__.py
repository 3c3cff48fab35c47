"""One file or folder per problem set; the registry finds them by their ``@register_benchmark`` line."""
