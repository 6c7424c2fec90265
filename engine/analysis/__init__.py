"""What is more than SQL: fits over the points that a query selects. Each analysis names the source of its formulas."""
