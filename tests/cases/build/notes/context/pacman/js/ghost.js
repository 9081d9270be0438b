boo()
