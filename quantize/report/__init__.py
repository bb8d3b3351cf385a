"""What the figures say: a recommendation, tables, a plot, cards for other programs."""
