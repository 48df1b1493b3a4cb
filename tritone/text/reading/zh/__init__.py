"""The rules of Mandarin, each for one kind of form."""
