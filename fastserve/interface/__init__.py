"""HTTP as a model sees it: the objects its methods may take, return and raise, ours or starlette's."""
