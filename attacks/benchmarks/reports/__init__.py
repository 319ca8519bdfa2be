"""Report victims: radiographs with reports that are grounded in what is known of each, and networks that write them."""
