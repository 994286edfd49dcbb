"""Values, ports and errors; imports nothing else of Wharfinger."""
