"""What each kind of fault does in virtual time: the class `Act` of the file that has its name."""
