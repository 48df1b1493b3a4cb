"""The rules of Japanese, each for one kind of form."""
