"""Request to response: the routes, and what each one answers. Knows no sockets."""
