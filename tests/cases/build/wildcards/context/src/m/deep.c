d2
