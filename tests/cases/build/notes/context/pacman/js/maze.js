walls()
