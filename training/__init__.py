"""Training: corpus preparation, one loop, and a recipe per network. Imports `tritone`; never imports `export`."""

# Before torch is imported: a missing package becomes a sentence.
import tritone as tritone
