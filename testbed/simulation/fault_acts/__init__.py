"""How each kind of fault is injected in virtual time: class `Act` in the file with the name of the kind."""
