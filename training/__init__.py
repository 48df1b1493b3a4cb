"""Training: corpus preparation, one loop, and a recipe per network. Imports `tritone`; never imports `export`."""
