"""One file per network; each has `build(args) -> training.loop.Run` (or `main(args)` when it runs several)."""
