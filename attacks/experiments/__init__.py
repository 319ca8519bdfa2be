"""Tables of the shape that papers print."""
