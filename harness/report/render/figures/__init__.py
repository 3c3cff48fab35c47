"""The pictures: differences to the reference, entropy, frontier, pass@k and the law, as PNG files.

They hold no date and no software tag, so equal records give equal bytes. Few rows share one panel; many get
a panel for each family (the part of the name before ``@``), so that every row can be seen.
"""
