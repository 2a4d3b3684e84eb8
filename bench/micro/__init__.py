"""One room at a time, without a socket."""
